//! What naga says of a reader's shader, and the same shader with loops that end.
//!
//! A loop that never ends takes a GPU down, and with it the windows of the reader's desktop. So what is run is not quite what
//! was written: every loop counts its rounds and breaks when there are too many, and then says so in a buffer of its own.
//! The additions are put into the lines that are there, so every line keeps its number.

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};

/// Most invocations in a workgroup that every WebGPU adapter has.
const MAX_INVOCATIONS: u32 = 256;

/// Binding of the buffer that says that a loop was ended: after the most that a kernel has (a uniform and 8 buffers).
pub(crate) const FLAG_BINDING: u32 = 15;

/// Parses and validates `source`; the guarded shader ends its loops after `rounds` rounds of each loop in one call of its function.
pub(crate) fn check(source: &str, rounds: u32) -> Value {
    let module = match wgsl::parse_str(source) {
        Ok(module) => module,
        Err(error) => {
            let notes = error.labels().map(|(_, note)| note.to_owned()).collect::<Vec<_>>();
            return problem(error.message(), &notes, error.location(source), source);
        }
    };
    if let Err(error) = Validator::new(ValidationFlags::all(), Capabilities::empty()).validate(&module) {
        let notes = causes(error.as_inner());
        return problem(&error.as_inner().to_string(), &notes, error.location(source), source);
    }
    let Some(main) = module.entry_points.iter().find(|entry| entry.name == "main") else {
        return problem(
            "there is no entry point `main`",
            &["keep `@compute` and `fn main`".into()],
            None,
            source,
        );
    };
    let [x, y, z] = main.workgroup_size;
    if x.saturating_mul(y).saturating_mul(z) > MAX_INVOCATIONS {
        let message = format!("a workgroup of {x} x {y} x {z} invocations is too large");
        let note = format!(
            "WebGPU promises {MAX_INVOCATIONS} invocations a workgroup on every adapter, and no more"
        );
        return problem(&message, &[note], None, source);
    }
    json!({ "ok": true, "workgroup": [x, y, z], "guarded": guarded(source, rounds) })
}

fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |error| error.source()).map(ToString::to_string).collect()
}

fn problem(message: &str, notes: &[String], location: Option<naga::SourceLocation>, source: &str) -> Value {
    let place = location.map(|at| {
        let (start, length) = (at.offset as usize, at.length as usize);
        let marked: String = source.get(start..start + length).unwrap_or("").chars().take(80).collect();
        json!({ "line": at.line_number, "column": at.line_position, "length": length, "marked": marked })
    });
    let mut notes: Vec<&String> =
        notes.iter().filter(|note| !note.is_empty() && note.as_str() != message).collect();
    notes.dedup();
    json!({ "ok": false, "message": message, "notes": notes, "place": place })
}

/// `source` with its comments and strings of letters blanked out, byte for byte as long.
fn blanked(source: &str) -> Vec<u8> {
    let mut text = source.as_bytes().to_vec();
    let (mut i, mut depth) = (0, 0);
    while i < text.len() {
        let pair = (text[i], text.get(i + 1).copied().unwrap_or(0));
        if depth == 0 && pair == (b'/', b'/') {
            while i < text.len() && text[i] != b'\n' {
                text[i] = b' ';
                i += 1;
            }
        } else if pair == (b'/', b'*') || (depth > 0 && pair == (b'*', b'/')) {
            depth = if pair.0 == b'/' { depth + 1 } else { depth - 1 };
            (text[i], text[i + 1]) = (b' ', b' ');
            i += 2;
        } else {
            if depth > 0 && text[i] != b'\n' {
                text[i] = b' ';
            }
            i += 1;
        }
    }
    text
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The shader with a counter in every function that has loops.
fn guarded(source: &str, rounds: u32) -> String {
    let text = blanked(source);
    let mut insertions: Vec<(usize, String)> = Vec::new();
    let mut body = None;
    let mut i = 0;
    while i < text.len() {
        if !is_word(text[i]) || (i > 0 && is_word(text[i - 1])) {
            i += 1;
            continue;
        }
        let end = (i..text.len()).find(|&j| !is_word(text[j])).unwrap_or(text.len());
        let brace = |from: usize| (from..text.len()).find(|&j| text[j] == b'{');
        match &text[i..end] {
            b"fn" => body = brace(end),
            b"loop" | b"while" => {
                if let (Some(function), Some(at)) = (body, brace(end)) {
                    guard(&mut insertions, function, at);
                }
            }
            b"for" => {
                let mut depth = 0;
                let close = (end..text.len()).find(|&j| {
                    depth += i32::from(text[j] == b'(') - i32::from(text[j] == b')');
                    depth == 0 && text[j] == b')'
                });
                if let (Some(function), Some(at)) = (body, close.and_then(brace)) {
                    guard(&mut insertions, function, at);
                }
            }
            _ => {}
        }
        i = end;
    }
    insertions.sort();
    let mut result = String::with_capacity(source.len() + insertions.len() * 120);
    let mut from = 0;
    for (at, what) in &insertions {
        result.push_str(&source[from..*at]);
        result.push_str(what);
        from = *at;
    }
    result.push_str(&source[from..]);
    if !insertions.is_empty() {
        if !source.ends_with('\n') {
            result.push('\n');
        }
        result.push_str(&format!(
            "@group(0) @binding({FLAG_BINDING}) var<storage, read_write> lesson_flag: array<u32>;\nconst lesson_most = {rounds}u;\n"
        ));
    }
    result
}

/// Each loop has a counter of its own, declared where its function begins: one that several loops share would not be the
/// same in all invocations after a loop whose rounds differ, and then no barrier may stand in a later loop.
fn guard(insertions: &mut Vec<(usize, String)>, function: usize, at: usize) {
    let name = format!("lesson_rounds_{at}");
    insertions.push((function + 1, format!(" var {name} = 0u;")));
    let stop = format!(" {name}++; if {name} > lesson_most {{ lesson_flag[0] = 1u; break; }}");
    insertions.push((at + 1, stop));
}

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::ops::KERNELS;

    #[test]
    fn every_shader_is_valid_and_stays_so_with_its_loops_guarded() {
        for shader in KERNELS.iter().flat_map(|kernel| kernel.shaders) {
            let first = check(shader.wgsl, 1000);
            assert_eq!(first["ok"], true, "{}: {first}", shader.name);
            let guarded = first["guarded"].as_str().expect("text");
            let again = check(guarded, 1000);
            assert_eq!(again["ok"], true, "{} guarded: {again}", shader.name);
            let code = |text: &str| {
                blanked(text)
                    .split(|&b| !is_word(b))
                    .filter(|w| matches!(*w, b"for" | b"while" | b"loop"))
                    .count()
            };
            assert_eq!(
                guarded.matches("++; if lesson_rounds_").count(),
                code(shader.wgsl),
                "{}",
                shader.name
            );
            assert_eq!(
                guarded.lines().count(),
                shader.wgsl.lines().count() + 2 * usize::from(code(shader.wgsl) > 0)
            );
        }
    }

    #[test]
    fn an_error_has_its_line_and_column() {
        let said = check("fn f() -> f32 {\n    return 1.0 +;\n}\n", 1);
        assert_eq!(said["ok"], false);
        assert_eq!(said["place"]["line"], 2, "{said}");
        assert!(said["place"]["column"].as_u64().is_some_and(|column| column > 10), "{said}");
        let said = check("@compute @workgroup_size(1)\nfn main() {\n    let x: u32 = 1.5;\n}\n", 1);
        assert_eq!((said["ok"].clone(), said["place"]["line"].clone()), (json!(false), json!(3)), "{said}");
    }

    #[test]
    fn a_workgroup_that_is_too_large_is_refused() {
        let said = check("@compute @workgroup_size(1024)\nfn main() {}\n", 1);
        assert!(said["message"].as_str().is_some_and(|text| text.contains("too large")), "{said}");
    }

    #[test]
    fn a_loop_without_end_is_accepted_and_ended() {
        let shader =
            KERNELS.iter().flat_map(|kernel| kernel.shaders).find(|shader| shader.name == "accumulate");
        let text = shader.expect("it is there").wgsl;
        for code in
            ["loop { }", "loop { if params.len == 0u { break; } }", "var a = 1u; while a > 0u { a = 2u; }"]
        {
            let endless = text.replacen("    let i =", &format!("    {code}\n    let i ="), 1);
            let said = check(&endless, 9);
            assert_eq!(said["ok"], true, "{code}: {said}");
            let guarded = said["guarded"].as_str().expect("text");
            assert_eq!(check(guarded, 9)["ok"], true, "{code}: {}", check(guarded, 9));
        }
    }

    #[test]
    fn comments_hold_no_loops() {
        let said = check(
            "// for loop { while\n/* loop { /* for */ } */\n@compute @workgroup_size(1)\nfn main() { loop { break; } }\n",
            7,
        );
        let guarded = said["guarded"].as_str().expect("text");
        assert_eq!(guarded.matches("++; if lesson_rounds_").count(), 1);
        assert!(guarded.contains("const lesson_most = 7u;"));
        assert_eq!(check(guarded, 7)["ok"], true);
    }
}
