//! What naga says of a reader's shader, and the same shader with loops that end.
//!
//! A loop that never ends takes a GPU down, and with it the windows of the reader's desktop. So what is run is not quite what
//! was written: every loop counts its rounds and breaks when there are too many, and then says so in a buffer of its own.
//! The additions are put into the lines that are there, so every line keeps its number.
//!
//! A count is kept for the whole invocation: a loop in a function that another loop calls would else have as many rounds in
//! each call. It is a variable of the entry point, handed down by pointer. One `var<private>` would do without that, but what
//! it holds is never the same in all invocations for the compiler, and then no barrier may stand in a loop that it ends.

use naga::front::wgsl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::Range;

/// Most invocations in a workgroup that every WebGPU adapter has.
const MAX_INVOCATIONS: u32 = 256;

/// Binding of the buffer that says that a loop was ended: after the most that a kernel has (a uniform and 8 buffers).
pub(crate) const FLAG_BINDING: u32 = 15;

/// Most calls of functions in one invocation, loops aside: functions that call each other twice would be a loop without one.
const MAX_CALLS: u64 = 1000;

/// With which the names of the additions begin.
const OWN: &[u8] = b"lesson_";

/// Parses and validates `source`; the guarded shader ends its loops after `rounds` rounds of each loop in one invocation.
pub(crate) fn check(source: &str, rounds: u32) -> Value {
    let text = blanked(source);
    if let Some(word) = words(&text).into_iter().find(|word| text[word.clone()].starts_with(OWN)) {
        let note = "a variable of that name could switch off what ends a reader's loops";
        let message = "names that begin with `lesson_` are the lessons' own";
        return problem(message, &[note.into()], Some(location(source, &word)), source);
    }
    validated(source, rounds)
}

/// Where `part` of `source` stands, as naga says it.
fn location(source: &str, part: &Range<usize>) -> naga::SourceLocation {
    let before = source.get(..part.start).unwrap_or_default();
    let line = before.rsplit('\n').next().unwrap_or_default();
    naga::SourceLocation {
        line_number: before.matches('\n').count() as u32 + 1,
        line_position: line.len() as u32 + 1,
        offset: part.start as u32,
        length: part.len() as u32,
    }
}

fn validated(source: &str, rounds: u32) -> Value {
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
    if main.workgroup_size_overrides.is_some() {
        let note = "how many invocations run has to be known before they do";
        return problem("the workgroup size is not a number", &[note.into()], None, source);
    }
    let [x, y, z] = main.workgroup_size;
    if x.saturating_mul(y).saturating_mul(z) > MAX_INVOCATIONS {
        let message = format!("a workgroup of {x} x {y} x {z} invocations is too large");
        let note = format!(
            "WebGPU promises {MAX_INVOCATIONS} invocations a workgroup on every adapter, and no more"
        );
        return problem(&message, &[note], None, source);
    }
    let calls = calls(source);
    if calls > MAX_CALLS {
        let note =
            format!("functions that call others several times add up; {MAX_CALLS} calls are the most here");
        return problem(&format!("an invocation makes {calls} calls of functions"), &[note], None, source);
    }
    let entries: Vec<&str> = module.entry_points.iter().map(|entry| entry.name.as_str()).collect();
    json!({ "ok": true, "workgroup": [x, y, z], "guarded": guarded(source, &entries, rounds) })
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

/// The ends of a line, each of which ends a comment.
fn ends_comment(letter: char) -> bool {
    matches!(letter, '\n'..='\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `source` with its comments and strings of letters blanked out, byte for byte as long.
fn blanked(source: &str) -> Vec<u8> {
    let mut text = source.as_bytes().to_vec();
    let (mut i, mut depth) = (0, 0);
    while i < text.len() {
        let pair = (text[i], text.get(i + 1).copied().unwrap_or(0));
        if depth == 0 && pair == (b'/', b'/') {
            let end = source[i..].find(ends_comment).map_or(text.len(), |length| i + length);
            text[i..end].fill(b' ');
            i = end;
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
    // Spaces and ends of lines outside of ASCII that WGSL knows.
    for (at, letter) in source.char_indices() {
        if matches!(letter, '\u{85}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}') {
            text[at..at + letter.len_utf8()].fill(b' ');
        }
    }
    text
}

/// Letters outside of ASCII may be part of a name; the spaces among them are blanked.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Where the words of `text` stand.
fn words(text: &[u8]) -> Vec<Range<usize>> {
    let mut words: Vec<Range<usize>> = Vec::new();
    for i in (0..text.len()).filter(|&i| is_word(text[i])) {
        match words.last_mut() {
            Some(word) if word.end == i => word.end = i + 1,
            _ => words.push(i..i + 1),
        }
    }
    words
}

/// A function: places in the text.
struct Function<'a> {
    name: &'a [u8],
    /// After the bracket that opens its parameters.
    parameters: usize,
    /// After the brace that opens its body.
    body: usize,
    /// After the brace that opens each loop's body: the loop's name.
    loops: Vec<usize>,
    /// The function that is called, and the place after the bracket that opens the arguments.
    calls: Vec<(usize, usize)>,
    /// The loops of this function, and of all that it calls.
    reach: BTreeSet<usize>,
}

/// The functions of a shader without comments.
fn functions(text: &[u8]) -> Vec<Function<'_>> {
    let next = |from: usize, what: u8| (from..text.len()).find(|&j| text[j] == what);
    let words = words(text);
    let mut functions: Vec<Function<'_>> = Vec::new();
    for pair in words.windows(2).filter(|pair| &text[pair[0].clone()] == b"fn") {
        let name = pair[1].clone();
        if let (Some(parameters), Some(body)) = (next(name.end, b'('), next(name.end, b'{')) {
            let (name, parameters, body) = (&text[name], parameters + 1, body + 1);
            functions.push(Function {
                name,
                parameters,
                body,
                loops: Vec::new(),
                calls: Vec::new(),
                reach: BTreeSet::new(),
            });
        }
    }
    let names: Vec<&[u8]> = functions.iter().map(|function| function.name).collect();
    for (i, word) in words.iter().enumerate() {
        let declared = i > 0 && &text[words[i - 1].clone()] == b"fn";
        let function = functions.iter_mut().rfind(|function| function.body <= word.start);
        let (Some(function), false) = (function, declared) else { continue };
        let start = match &text[word.clone()] {
            b"loop" | b"while" => next(word.end, b'{'),
            b"for" => {
                let mut depth = 0;
                let close = (word.end..text.len()).find(|&j| {
                    depth += i32::from(text[j] == b'(') - i32::from(text[j] == b')');
                    depth == 0 && text[j] == b')'
                });
                close.and_then(|close| next(close, b'{'))
            }
            called => {
                let callee = names.iter().position(|name| *name == called);
                let opens = (word.end..text.len()).find(|&j| !text[j].is_ascii_whitespace());
                if let (Some(callee), Some(at)) = (callee, opens.filter(|&j| text[j] == b'(')) {
                    function.calls.push((callee, at + 1));
                }
                None
            }
        };
        function.loops.extend(start.map(|brace| brace + 1));
    }
    for function in &mut functions {
        function.reach.extend(&function.loops);
    }
    // WGSL has no recursion, so as many rounds as there are functions are enough.
    for _ in 0..functions.len() {
        for i in 0..functions.len() {
            let below: Vec<usize> = functions[i]
                .calls
                .iter()
                .flat_map(|&(callee, _)| &functions[callee].reach)
                .copied()
                .collect();
            functions[i].reach.extend(below);
        }
    }
    functions
}

/// Most calls that any function of `source` leads to, each loop's body taken once.
fn calls(source: &str) -> u64 {
    let text = blanked(source);
    let functions = functions(&text);
    let mut calls = vec![0u64; functions.len()];
    // WGSL has no recursion, so as many rounds as there are functions are enough.
    for _ in 0..functions.len() {
        for (i, function) in functions.iter().enumerate() {
            calls[i] = function
                .calls
                .iter()
                .fold(0, |sum, &(callee, _)| sum.saturating_add(calls[callee]).saturating_add(1));
        }
    }
    calls.into_iter().max().unwrap_or(0)
}

/// The shader with a counter for every loop: a variable of the entry point, which the functions get by pointer.
///
/// Each loop has a counter of its own: one that several loops share would not be the same in all invocations after a loop
/// whose rounds differ, and then no barrier may stand in a later loop.
fn guarded(source: &str, entries: &[&str], rounds: u32) -> String {
    let text = blanked(source);
    let functions = functions(&text);
    let name = |at: &usize| format!("lesson_rounds_{at}");
    let mut insertions: Vec<(usize, String)> = Vec::new();
    // Into a list that begins at a place: with a comma if more follows.
    let list = |at: usize, items: Vec<String>| {
        let last = text[at..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b')');
        (at, items.join(", ") + if last || items.is_empty() { "" } else { ", " })
    };
    for function in &functions {
        let is_entry = entries.iter().any(|entry| entry.as_bytes() == function.name);
        let (star, and) = if is_entry { ("", "&") } else { ("*", "") };
        if is_entry {
            let variables = function.reach.iter().map(|at| format!(" var {} = 0u;", name(at)));
            insertions.push((function.body, variables.collect()));
        } else {
            let pointers = function.reach.iter().map(|at| format!("{}: ptr<function, u32>", name(at)));
            insertions.push(list(function.parameters, pointers.collect()));
        }
        for &(callee, at) in &function.calls {
            let handed = functions[callee].reach.iter().map(|at| format!("{and}{}", name(at)));
            insertions.push(list(at, handed.collect()));
        }
        for at in &function.loops {
            let count = format!("{star}{}", name(at));
            let stop = format!(" {count} += 1u; if {count} > lesson_most {{ lesson_flag[0] = 1u; break; }}");
            insertions.push((*at, stop));
        }
    }
    insertions.retain(|(_, what)| !what.is_empty());
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

#[cfg(test)]
mod tests {
    use super::*;
    use centripetal::ops::KERNELS;

    const STOP: &str = " > lesson_most {";

    #[test]
    fn every_shader_is_valid_and_stays_so_with_its_loops_guarded() {
        // The lessons' own build has none with subgroups; that of the whole workspace has.
        let shaders = KERNELS.iter().flat_map(|kernel| kernel.shaders);
        for shader in shaders.filter(|shader| !shader.uses_subgroups()) {
            let first = check(shader.wgsl, 1000);
            assert_eq!(first["ok"], true, "{}: {first}", shader.name);
            let guarded = first["guarded"].as_str().expect("text");
            let again = validated(guarded, 1000);
            assert_eq!(again["ok"], true, "{} guarded: {again}", shader.name);
            let code = |text: &str| {
                blanked(text)
                    .split(|&b| !is_word(b))
                    .filter(|w| matches!(*w, b"for" | b"while" | b"loop"))
                    .count()
            };
            assert_eq!(guarded.matches(STOP).count(), code(shader.wgsl), "{}", shader.name);
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
            assert_eq!(validated(guarded, 9)["ok"], true, "{code}: {}", validated(guarded, 9));
        }
    }

    /// A shader by which a helper's loop is reached from loops, over functions that come later and barriers.
    const NESTED: &str = "
struct Params { len: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;
var<workgroup> shared_sum: array<u32, 4>;
fn plain(a: u32) -> u32 { return a + 1u; }
fn größer() -> u32 { for (;;) { } return plain(3u); }
@compute @workgroup_size(4)
fn main(@builtin(local_invocation_index) lane: u32) {
    while params.len > 0u { out[lane] += middle(plain(lane), größer ( )); }
    for (var i = 0u; i < params.len; i++) { out[lane] += shared_by_all(lane); }
}
fn middle(a: u32, b: u32) -> u32 { loop { if a == b { break; } let c = größer(); if c > 9u { continue; } } return a; }
fn shared_by_all(lane: u32) -> u32 {
    for (var i = 0u; i < params.len; i++) { shared_sum[lane] = i; workgroupBarrier(); }
    return shared_sum[3u - lane];
}
";

    #[test]
    fn a_loop_has_one_count_for_the_whole_invocation() {
        let said = check(NESTED, 9);
        assert_eq!(said["ok"], true, "{said}");
        let guarded = said["guarded"].as_str().expect("text");
        assert_eq!(validated(guarded, 9)["ok"], true, "{}\n{guarded}", validated(guarded, 9));
        let at = |before: &str| NESTED.find(before).expect("it is there") + before.len();
        let helper = format!("lesson_rounds_{}", at("for (;;) {"));
        let middle = format!("lesson_rounds_{}", at("u32 { loop {"));
        // Set to 0 where the invocation begins, and nowhere else.
        for counter in [&helper, &middle] {
            assert_eq!(guarded.matches(&format!("var {counter} = 0u;")).count(), 1);
        }
        let body = guarded.split("fn main(").nth(1).and_then(|main| main.split("fn middle").next());
        let body = body.expect("main");
        assert_eq!(body.matches("= 0u;").count(), 1 + 5, "five loops, and a variable of its own: {body}");
        assert!(body.contains(&format!("größer (&{helper} )")), "{body}");
        assert!(body.contains("plain(lane)"), "{body}");
        let (a, b) = (format!("{helper}: ptr<function, u32>"), format!("{middle}: ptr<function, u32>"));
        assert!(guarded.contains(&format!("fn größer({a}) ")), "{guarded}");
        assert!(guarded.contains(&format!("fn middle({a}, {b}, a: u32, b: u32)")), "{guarded}");
        assert!(guarded.contains(&format!("let c = größer({helper});")), "{guarded}");
        assert!(guarded.contains("fn plain(a: u32)"), "{guarded}");
        assert!(
            guarded.contains(&format!(
                "*{helper} += 1u; if *{helper} > lesson_most {{ lesson_flag[0] = 1u; break; }}"
            )),
            "{guarded}"
        );
    }

    #[test]
    fn comments_hold_no_loops() {
        let said = check(
            "// for loop { while\n/* loop { /* for */ } */\n@compute @workgroup_size(1)\nfn main() { loop { break; } }\n",
            7,
        );
        let guarded = said["guarded"].as_str().expect("text");
        assert_eq!(guarded.matches(STOP).count(), 1);
        assert!(guarded.contains("const lesson_most = 7u;"));
        assert_eq!(validated(guarded, 7)["ok"], true);
        // What naga takes for the end of a line is one.
        for end in ['\n', '\u{b}', '\u{c}', '\r', '\u{85}', '\u{2028}', '\u{2029}'] {
            let text =
                format!("@compute @workgroup_size(1)\nfn main() {{ // for{end} loop {{ break; }}\n }}\n");
            let said = check(&text, 7);
            assert_eq!(said["ok"], true, "{end:?}: {said}");
            assert_eq!(said["guarded"].as_str().expect("text").matches(STOP).count(), 1, "{end:?}");
        }
    }

    #[test]
    fn what_would_get_round_the_guard_is_refused() {
        let refused = |text: &str, why: &str| {
            let said = check(text, 7);
            assert_eq!(said["ok"], false, "{text}");
            assert!(said["message"].as_str().is_some_and(|message| message.contains(why)), "{said}");
            said
        };
        let said = refused(
            "@compute @workgroup_size(1)\nfn main() {\n    let lesson_most = 4294967295u; loop { break; } }\n",
            "lesson_",
        );
        assert_eq!((&said["place"]["line"], &said["place"]["column"]), (&json!(3), &json!(9)), "{said}");
        assert_eq!(said["place"]["marked"], "lesson_most");
        refused("override n = 256u;\n@compute @workgroup_size(n)\nfn main() {}\n", "not a number");
        let mut text = "fn f0() {}\n".to_owned();
        for i in 1..12 {
            text += &format!("fn f{i}() {{ f{}(); f{}(); }}\n", i - 1, i - 1);
        }
        refused(&(text + "@compute @workgroup_size(1)\nfn main() { f11(); }\n"), "calls of functions");
    }
}
