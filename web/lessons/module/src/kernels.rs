//! Kernels of the library by name: their tables, their twins, their cases, and the judgement of a reader's results.

use crate::school::{Reply, get, wrong};
use centripetal::Result;
use centripetal::device::{Access, Args, Kernel, MAX_BINDINGS};
use centripetal::ops::KERNELS;
use centripetal::selftest::{Case, MAX_NMSE, MAX_WORST, cases};
use serde_json::{Map, Value, json};

fn find(name: &str) -> Result<&'static Kernel> {
    KERNELS.iter().copied().find(|kernel| kernel.name == name).ok_or_else(|| wrong("kernel", name))
}

/// The kernel's table: fields of the uniform, bindings, shaders.
pub(crate) fn describe(name: &str) -> Result<Reply> {
    let kernel = find(name)?;
    let bindings = kernel
        .bindings
        .iter()
        .map(|binding| json!({ "name": binding.name, "write": binding.access == Access::Write }));
    let shaders = kernel
        .shaders
        .iter()
        .map(|shader| json!({ "name": shader.name, "memory": shader.uses_workgroup_memory() }));
    Ok(json!({
        "name": kernel.name,
        "fields": kernel.params.iter().map(|field| json!({ "name": field.name, "scalar": field.scalar })).collect::<Vec<_>>(),
        "bindings": bindings.collect::<Vec<_>>(),
        "shaders": shaders.collect::<Vec<_>>(),
    })
    .into())
}

/// The uniform's bytes from numbers by field name; what is not given is 0.
fn uniform(kernel: &Kernel, params: &Value) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(kernel.params.len() * 4);
    for field in kernel.params {
        let number = params[field.name].as_f64().unwrap_or(0.0);
        match field.scalar {
            "f32" => bytes.extend((number as f32).to_le_bytes()),
            "i32" => bytes.extend((number as i32).to_le_bytes()),
            _ if number >= 0.0 => bytes.extend((number as u32).to_le_bytes()),
            _ => return Err(wrong(field.name, &number.to_string())),
        }
    }
    Ok(bytes)
}

fn words(params: &[u8]) -> Vec<u32> {
    params.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

/// Workgroups of every shader of `kernel`, by its name.
fn grids(kernel: &Kernel, params: &[u8]) -> Value {
    let grids =
        kernel.shaders.iter().map(|shader| (shader.name.to_owned(), json!((shader.workgroups)(params))));
    Value::Object(grids.collect::<Map<_, _>>())
}

/// Runs a twin: `arrays` are what it reads and, if given, what its outputs hold before; `writes` their lengths.
pub(crate) fn twin(arguments: &Value, arrays: &[Vec<f32>]) -> Result<Reply> {
    let kernel = find(&get::<String>(arguments, "kernel")?)?;
    let params = uniform(kernel, &arguments["params"])?;
    let lengths: Vec<usize> = get(arguments, "writes")?;
    let count = |access| kernel.bindings.iter().filter(|binding| binding.access == access).count();
    let inputs = count(Access::Read);
    if arrays.len() < inputs || lengths.len() != count(Access::Write) {
        return Err(wrong("arrays", &format!("{} arrays and {} lengths", arrays.len(), lengths.len())));
    }
    let mut outputs: Vec<Vec<f32>> = lengths
        .iter()
        .enumerate()
        .map(|(i, &len)| arrays.get(inputs + i).cloned().unwrap_or_else(|| vec![f32::NAN; len]))
        .collect();
    let mut reads: [&[f32]; MAX_BINDINGS] = Default::default();
    for (read, array) in reads.iter_mut().zip(&arrays[..inputs]) {
        *read = array;
    }
    let mut writes: [&mut [f32]; MAX_BINDINGS] = Default::default();
    for (write, array) in writes.iter_mut().zip(&mut outputs) {
        *write = array;
    }
    (kernel.twin)(Args::new(&params, reads, writes));
    let value = json!({ "words": words(&params), "workgroups": grids(kernel, &params) });
    Ok(Reply { value, arrays: outputs })
}

fn of_kernel(name: &str) -> Result<Vec<Case>> {
    let kernel = find(name)?;
    Ok(cases().into_iter().filter(|case| std::ptr::eq(case.kernel, kernel)).collect())
}

/// The self-test's cases of a kernel; the arrays are each case's inputs, then what its outputs hold before.
pub(crate) fn cases_of(name: &str) -> Result<Reply> {
    let (mut list, mut arrays) = (Vec::new(), Vec::new());
    for case in of_kernel(name)? {
        list.push(json!({
            "name": case.name,
            "words": words(&case.params),
            "workgroups": grids(case.kernel, &case.params),
            "inputs": case.inputs.len(),
            "outputs": case.outputs.len(),
        }));
        arrays.extend(case.inputs);
        arrays.extend(case.outputs.into_iter().map(|output| output.before));
    }
    Ok(Reply { value: json!(list), arrays })
}

/// What a reader's kernel made of case `index`, against the twin.
pub(crate) fn judge(name: &str, index: usize, found: &[Vec<f32>]) -> Result<Reply> {
    let all = of_kernel(name)?;
    let case = all.get(index).ok_or_else(|| wrong("case", &index.to_string()))?;
    let expected = case.expected();
    if found.len() != expected.len() {
        return Err(wrong("outputs", &found.len().to_string()));
    }
    let written: Vec<&str> = case
        .kernel
        .bindings
        .iter()
        .filter(|binding| binding.access == Access::Write)
        .map(|binding| binding.name)
        .collect();
    let (mut nmse, mut worst, mut first) = (0.0f64, 0.0f64, None);
    for ((output, (name, expected)), found) in
        case.outputs.iter().zip(written.iter().zip(&expected)).zip(found)
    {
        let is_float = |i: usize| !output.integers.contains(&i);
        let largest = (0..expected.len())
            .filter(|&i| is_float(i) && expected[i].is_finite())
            .fold(0.0, |most: f64, i| most.max(f64::from(expected[i].abs())));
        let (mut error, mut squares) = (0.0, 0.0);
        for (i, &wanted) in expected.iter().enumerate() {
            let got = found.get(i).copied().unwrap_or(f32::NAN);
            let (a, b) = (f64::from(wanted), f64::from(got));
            let bad = if is_float(i) {
                let same = wanted == got || (wanted.is_nan() && got.is_nan());
                let difference = if same { 0.0 } else { (a - b).abs() };
                error += difference * difference;
                squares += if a.is_finite() { a * a } else { 0.0 };
                let relative = if difference == 0.0 { 0.0 } else { difference / largest };
                worst = worst.max(if relative.is_nan() { f64::INFINITY } else { relative });
                relative > MAX_WORST || relative.is_nan()
            } else {
                let differs = wanted.to_bits() != got.to_bits();
                worst = if differs { f64::INFINITY } else { worst };
                differs
            };
            if bad && first.is_none() {
                let shown = |x: f32| {
                    if is_float(i) { json!(format!("{x}")) } else { json!(format!("{}", x.to_bits())) }
                };
                first = Some(json!({
                    "buffer": name,
                    "index": i,
                    "place": place(case, i, expected.len()),
                    "expected": shown(wanted),
                    "found": if got.is_nan() { json!("NaN (nothing was written there)") } else { shown(got) },
                    "of": expected.len(),
                }));
            }
        }
        let part = if error == 0.0 { 0.0 } else { error / squares };
        nmse = nmse.max(if part.is_nan() { f64::INFINITY } else { part });
    }
    let passed = nmse <= MAX_NMSE && worst <= MAX_WORST;
    Ok(json!({
        "case": case.name,
        "passed": passed,
        "nmse": nmse.min(1e300),
        "worst": worst.min(1e300),
        "first": first,
        "params": named(case),
    })
    .into())
}

/// The uniform by field name.
fn named(case: &Case) -> Value {
    let fields = case.kernel.params.iter().zip(words(&case.params)).map(|(field, word)| {
        let value = if field.scalar == "f32" { json!(f32::from_bits(word)) } else { json!(word) };
        (field.name.to_owned(), value)
    });
    Value::Object(fields.collect())
}

/// Where number `index` of a buffer of `len` lies, by the dimensions that the uniform names: `n 0, k 1, p 2, q 0`.
fn place(case: &Case, index: usize, len: usize) -> Option<String> {
    let params = named(case);
    let forms: &[&[&str]] =
        &[&["n", "k", "p", "q"], &["n", "c", "h", "w"], &["n", "c", "pixels"], &["k", "c", "r", "s"]];
    let dims = forms.iter().find_map(|form| {
        let dims: Option<Vec<(&str, usize)>> =
            form.iter().map(|&name| Some((name, params[name].as_u64()? as usize))).collect();
        dims.filter(|dims| dims.iter().map(|(_, size)| size).product::<usize>() == len)
    })?;
    let mut rest = index;
    let mut parts: Vec<String> = Vec::new();
    for &(name, size) in dims.iter().rev() {
        parts.push(format!("{name} {}", rest % size.max(1)));
        rest /= size.max(1);
    }
    parts.reverse();
    Some(parts.join(", "))
}
