//! The formulas of the lessons: one side from the library, the other written out here in f64, as the text has it.

use super::*;
use centripetal::formats::Checkpoint;

/// Fixed numbers between -1 and 1, different for each `seed`.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    let mut rng = centripetal::rng::Rng::new(seed as u64);
    (0..len).map(|_| 2.0 * rng.uniform() - 1.0).collect()
}

fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|&x| f64::from(x)).collect()
}

/// Every number to a few of the last digits of a float32 of size 1.
fn equal(found: &[f32], expected: &[f64]) {
    equal_within(found, expected, 2e-6);
}

fn equal_within(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= tolerance * expected.abs().max(1.0),
            "number {i}: {found}, by the formula {expected}"
        );
    }
}

/// A table of whole numbers as the kernels have it in their buffers.
fn bits(table: &[u32]) -> Vec<f32> {
    table.iter().map(|&word| f32::from_bits(word)).collect()
}

/// Formulas of `text` that say how one thing follows from others; not the single letters.
fn formulas(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [(r"\[ ", r" \]"), (r"\( ", r" \)")] {
        for part in text.split(open).skip(1) {
            let formula = &part[..part.find(close).expect("a formula ends")];
            let says = ["=", "/", "^", "+", "-", r"\cdot", r"\gets", r"\approx", r"\sum"];
            if open == r"\[ " || says.iter().any(|sign| formula.contains(sign)) {
                found.push(format!("{open}{formula}{close}"));
            }
        }
    }
    found
}

#[test]
fn each_formula_of_the_texts_is_stated_by_a_test() {
    let tests = [include_str!("../school.rs"), include_str!("formulas.rs")].concat().replace(r"\\", r"\");
    let mut count = 0;
    for name in PAGES {
        for formula in formulas(&Lesson::open(name).0) {
            assert!(tests.contains(&formula), "{name}: no test states {formula}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}

const PAGES: [&str; 11] = [
    "01-convolution",
    "02-backward",
    "03-gpu",
    "04-batch-norm",
    "05-sgd",
    "06-clusters",
    "07-surgery",
    "08-couplings",
    "09-zero-or-identical",
    "10-how-far",
    "teacher",
];

/// Convolutions of two pictures of 3 channels, with stride, padding and dilation.
fn convolutions() -> Vec<(Conv2d, Shape)> {
    let strided = Conv2d { stride: [2, 1], padding: Padding::all(2), ..Conv2d::new(3, 4, [3, 2]) };
    let dilated = Conv2d { dilation: [2, 3], padding: Padding::all(1), ..Conv2d::new(3, 5, [3, 3]) };
    let both =
        Conv2d { stride: [3, 2], dilation: [1, 2], padding: Padding::all(1), ..Conv2d::new(3, 2, [2, 3]) };
    [Conv2d::new(3, 4, [3, 3]), strided, dilated, both].map(|conv| (conv, Shape::new(3, 9, 8))).to_vec()
}

const BATCH: usize = 2;

/// For every output and every tap that lies inside of the picture: the places of y, w and x, and the filter.
fn products(conv: &Conv2d, x: Shape, mut each: impl FnMut(usize, usize, usize, usize)) {
    let y = conv.output_shape(&[x]).expect("fits");
    let [rows, columns] = conv.kernel;
    for (n, k) in (0..BATCH).flat_map(|n| (0..y.c).map(move |k| (n, k))) {
        for (p, q) in (0..y.h).flat_map(|p| (0..y.w).map(move |q| (p, q))) {
            for (c, r, s) in
                (0..x.c).flat_map(|c| (0..rows).flat_map(move |r| (0..columns).map(move |s| (c, r, s))))
            {
                let h = (p * conv.stride[0] + r * conv.dilation[0]) as i64 - conv.padding.top as i64;
                let v = (q * conv.stride[1] + s * conv.dilation[1]) as i64 - conv.padding.left as i64;
                if (0..x.h as i64).contains(&h) && (0..x.w as i64).contains(&v) {
                    let pixel = (n * x.c + c) * x.h * x.w + h as usize * x.w + v as usize;
                    let output = ((n * y.c + k) * y.h + p) * y.w + q;
                    each(output, ((k * x.c + c) * rows + r) * columns + s, pixel, k);
                }
            }
        }
    }
}

fn with(params: &Value, name: &str, value: Value) -> Value {
    let mut params = params.clone();
    params[name] = value;
    params
}

#[test]
fn a_convolution_is_the_sum_that_the_formula_says() {
    let lesson = Lesson::open("01-convolution");
    lesson.states(r"\[ y_{n,k,p,q} = b_k + \sum_{c,r,s} w_{k,c,r,s} \cdot x_{n,c,h,v} \;\; \text{with} \;\; h = p \cdot \text{stride} + r \cdot \text{dilation} - \text{pad} \] <p>and \( v \) likewise from \( q \) and \( s \). Outside of the picture \( x \) counts as 0.");
    lesson.states("The bias \\( b_k \\) is one more number for each filter.");
    for (conv, shape) in convolutions() {
        let (params, y) = conv_params(&conv, BATCH, shape);
        let len = BATCH * y.c * y.h * y.w;
        let x = numbers(BATCH * shape.c * shape.h * shape.w, 1);
        let weight = numbers(y.c * shape.c * conv.kernel[0] * conv.kernel[1], 2);
        let bias = numbers(y.c, 3);
        let mut expected: Vec<f64> = (0..len).map(|i| f64::from(bias[i / (y.h * y.w) % y.c])).collect();
        products(&conv, shape, |output, tap, pixel, _| {
            expected[output] += f64::from(weight[tap]) * f64::from(x[pixel]);
        });
        let params = with(&params, "has_bias", json!(1));
        equal(&twin("conv2d_forward", params, vec![x, weight, bias], &[len]).arrays[0], &expected);
    }
    lesson.states(r"The filter covers \( \text{dilation} \cdot (R - 1) + 1 \) pixels");
    for (r, dilation) in (1..6).flat_map(|r| (1..4).map(move |dilation| (r, dilation))) {
        let conv = Conv2d { dilation: [dilation; 2], ..Conv2d::new(1, 1, [r, r]) };
        let covered = dilation * (r - 1) + 1;
        let fits = |side: usize| conv.output_shape(&[Shape::new(1, side, side)]).map(|y| y.h);
        assert_eq!(fits(covered).expect("one output"), 1);
        assert!(fits(covered - 1).is_err(), "{r} {dilation}");
    }
    lesson.states(r"Its cost is \( N K P Q \cdot C R S \) multiply-adds.");
    Lesson::open("10-how-far").states(r"A layer’s multiply-adds are \( N K P Q \cdot C R S \).");
    for (conv, shape) in convolutions() {
        let y = conv.output_shape(&[shape]).expect("fits");
        let macs = y.c * y.h * y.w * shape.c * conv.kernel[0] * conv.kernel[1];
        assert_eq!(conv.macs(&[shape], y), macs as u64);
    }
    lesson.states("they wrap round to about 4 billion");
    assert!((f64::from(0u32.wrapping_sub(1)) / 4e9 - 1.0).abs() < 0.1);
    lesson.states("a picture of Fashion-MNIST, 28 × 28 pixels, one channel");
    assert_eq!(value(&mut school(), "image", json!({ "index": 0 }))["shape"], json!([1, 28, 28]));
}

#[test]
fn gradients_are_what_the_formulas_say() {
    let lesson = Lesson::open("02-backward");
    lesson.states(
        r"\[ \frac{\partial L}{\partial w} \approx \frac{L(w + h) - L(w - h)}{2 h} \] <p>This is a <em>central difference</em>.",
    );
    let found = value(&mut school(), "gradient", json!({ "h": 0.02 }));
    let list = |name: &str| -> Vec<f64> { serde_json::from_value(found[name].clone()).expect("numbers") };
    lesson.states(
        "a picture of 6 × 6, a convolution by a filter of 3 × 3, a sigmoid, and a weighted sum as the loss",
    );
    lesson.states("the gradients of the nine weights");
    let (x, weight, pull) = (list("x"), list("weight"), list("pull"));
    assert_eq!((x.len(), weight.len(), pull.len()), (36, 9, 16));
    let loss = |weight: &[f64]| -> f64 {
        let y = |i: usize| -> f64 {
            (0..9).map(|tap| weight[tap] * x[(i / 4 + tap / 3) * 6 + i % 4 + tap % 3]).sum()
        };
        (0..16).map(|i| pull[i] / (1.0 + (-y(i)).exp())).sum()
    };
    let central = |i: usize, h: f64| {
        let moved = |by: f64| {
            let mut weight = weight.clone();
            weight[i] += by;
            loss(&weight)
        };
        (moved(h) - moved(-h)) / (2.0 * h)
    };
    let exact: Vec<f64> = (0..9).map(|i| central(i, 1e-5)).collect();
    equal(&list("backward").iter().map(|&x| x as f32).collect::<Vec<_>>(), &exact);
    // The lesson's own differences, with the error of a float32 loss over a step of 0.02.
    let coarse: Vec<f64> = (0..9).map(|i| central(i, 0.02)).collect();
    equal_within(&list("differences").iter().map(|&x| x as f32).collect::<Vec<_>>(), &coarse, 2e-5);
    lesson.states(r"This error grows with \( h^2 \): ten times the step, a hundred times the error.");
    let error = |h: f64| (0..9).map(|i| (central(i, h) - exact[i]).abs()).fold(0.0, f64::max);
    assert!((error(0.1) / error(0.01) - 100.0).abs() < 1.0, "{} {}", error(0.1), error(0.01));
    lesson.states("The kernels compute in float32, with about seven digits.");
    assert_eq!((-(f64::from(f32::EPSILON) / 2.0).log10()).round(), 7.0);

    lesson.states(r"<strong>ReLU</strong>, \( y = \max(x, 0) \)");
    lesson.states(r"So \( dx = dy \) or \( dx = 0 \).");
    lesson.states("y &gt; 0 says the same as x &gt; 0");
    let (x, dy) = (numbers(50, 1), numbers(50, 2));
    let y = twin("relu_forward", json!({ "len": 50 }), vec![x.clone()], &[50]).arrays.swap_remove(0);
    equal_within(&y, &wide(&x).iter().map(|x| x.max(0.0)).collect::<Vec<_>>(), 0.0);
    let dx = twin("relu_backward", json!({ "len": 50 }), vec![y, dy.clone()], &[50]).arrays.swap_remove(0);
    let passed: Vec<f64> = x.iter().zip(wide(&dy)).map(|(&x, dy)| if x > 0.0 { dy } else { 0.0 }).collect();
    equal_within(&dx, &passed, 0.0);

    lesson.states(r"each pixel’s gradient counts once: \( db_k = \sum_{n,p,q} dy_{n,k,p,q} \).");
    lesson.states(r"\[ dw_{k,c,r,s} = \sum_{n,p,q} dy_{n,k,p,q} \cdot x_{n,c,h,v} \]");
    lesson.states("the gradient of the picture is one too, with the filters turned by 180 degrees");
    lesson.states("its gradient is the sum of both");
    lesson.states("the first to come writes, the second adds");
    for (conv, shape) in convolutions() {
        let (params, y) = conv_params(&conv, BATCH, shape);
        let (pixels, outputs) = (BATCH * shape.c * shape.h * shape.w, BATCH * y.c * y.h * y.w);
        let x = numbers(pixels, 4);
        let weight = numbers(y.c * shape.c * conv.kernel[0] * conv.kernel[1], 5);
        let dy = numbers(outputs, 6);
        let (mut dw, mut dx, mut db) = (vec![0.0; weight.len()], vec![0.0; pixels], vec![0.0; y.c]);
        for (i, &dy) in dy.iter().enumerate() {
            db[i / (y.h * y.w) % y.c] += f64::from(dy);
        }
        products(&conv, shape, |output, tap, pixel, _| {
            dw[tap] += f64::from(dy[output]) * f64::from(x[pixel]);
            dx[pixel] += f64::from(dy[output]) * f64::from(weight[tap]);
        });
        let of = |kernel: &str, arrays: Vec<Vec<f32>>, len: usize| {
            twin(kernel, params.clone(), arrays, &[len]).arrays.swap_remove(0)
        };
        equal(&of("conv2d_bias_gradient", vec![dy.clone()], y.c), &db);
        equal_within(&of("conv2d_weight_gradient", vec![x, dy.clone()], dw.len()), &dw, 5e-6);
        let first = of("conv2d_input_gradient", vec![dy.clone(), weight.clone()], pixels);
        equal(&first, &dx);
        let twice = twin(
            "conv2d_input_gradient",
            with(&params, "accumulate", json!(1)),
            vec![dy, weight, first],
            &[pixels],
        );
        equal(&twice.arrays[0], &dx.iter().map(|dx| 2.0 * dx).collect::<Vec<_>>());
    }
    // The same once more as the text says it: dy with a border of R - 1 zeros, by the filter turned round.
    let (conv, turned, shape) = (Conv2d::new(1, 1, [3, 3]), Conv2d::new(1, 1, [3, 3]), Shape::new(1, 6, 6));
    let turned = Conv2d { padding: Padding::all(2), ..turned };
    let (weight, dy) = (numbers(9, 7), numbers(16, 8));
    let (params, _) = conv_params(&conv, 1, shape);
    let dx = twin("conv2d_input_gradient", params, vec![dy.clone(), weight.clone()], &[36]).arrays;
    let round: Vec<f32> = weight.into_iter().rev().collect();
    let (params, y) = conv_params(&turned, 1, Shape::new(1, 4, 4));
    assert_eq!(y, shape);
    let as_forward = twin("conv2d_forward", params, vec![dy, round, Vec::new()], &[36]).arrays;
    equal(&dx[0], &wide(&as_forward[0]));

    lesson.states("Sixty-four invocations share it: each takes every 64th pixel");
    lesson.states("32 add 32 others, then 16 add 16, and so on");
    let shader = String::from_utf8(read("shaders/conv2d_bias_gradient.wgsl")).expect("UTF-8");
    for line in [
        "@workgroup_size(64)",
        "pixel += 64u",
        "for (var half = 32u; half > 0u; half /= 2u) {",
        "sums[local] += sums[local + half];",
    ] {
        assert!(shader.contains(line), "{line}");
    }
}

#[test]
fn the_grid_is_as_the_text_says() {
    let (lesson, teacher) = (Lesson::open("03-gpu"), Lesson::open("teacher"));
    let shader = |name: &str| String::from_utf8(read(&format!("shaders/{name}.wgsl"))).expect("UTF-8");
    lesson.states("written in the shader: <code>@workgroup_size(64)</code>");
    lesson.states("<code>group.y * groups.x + group.x</code> unfolds them");
    assert!(shader("relu_forward").contains("@workgroup_size(64)"));
    assert!(shader("conv2d_forward").contains("group.y * groups.x + group.x"));
    lesson.states("up to 16 KiB everywhere");
    lesson.states("lets 64 invocations fetch a tile together");
    lesson.states("each invocation computes 4 filters × 8 pixels");
    let tiled = shader("conv2d_forward_tiled");
    assert!(tiled.contains("@workgroup_size(64)"));
    // Fours in workgroup memory: 16 filters and 128 pixels for 64 invocations, 32 outputs each.
    let held = |name: &str| -> usize {
        let declared =
            tiled.split(&format!("var<workgroup> {name}: array<vec4<f32>, ")).nth(1).expect("declared");
        declared[..declared.find('>').expect("its end")].parse().expect("a number")
    };
    let (filters, pixels) = (held("filters") * 4 / 16, held("patches") * 4 / 16);
    assert_eq!((filters, pixels), (16, 128));
    assert!((held("filters") + held("patches")) * 16 <= 16 * 1024);
    assert_eq!(filters * pixels / 64, 4 * 8);
    let stores = tiled.lines().filter(|line| line.trim_start().starts_with("store(")).count();
    assert_eq!(stores, 4 * 8 / 4, "vectors of four");

    lesson.states("Change <code>@workgroup_size(64)</code> to 32. The grid still has as many workgroups, so half of the numbers are missing.");
    teacher.states("invocations 32 to 63 of each group are missing");
    teacher.states("1,024 is refused because WebGPU promises 256");
    let text = shader("accumulate");
    assert!(text.contains("* 64u + "), "the index is built with 64");
    let school = &mut school();
    let mut said = |size: u32| {
        let source = text.replace("@workgroup_size(64)", &format!("@workgroup_size({size})"));
        value(school, "wgsl", json!({ "source": source, "rounds": 20_000 }))
    };
    assert_eq!(said(256)["ok"], true);
    let refused = said(1024);
    assert_eq!(refused["ok"], false);
    assert!(refused["notes"][0].as_str().is_some_and(|note| note.contains("256 invocations")), "{refused}");
    lesson.states("a multiply-add counts as two");
    let block = String::from_utf8(read("web/lessons/blocks/measure.ts")).expect("UTF-8");
    assert!(block.contains("const flops = 2 * length * c * 9;"));
}

#[test]
fn digits_of_batch_norm_are_as_stated() {
    let (lesson, teacher) = (Lesson::open("04-batch-norm"), Lesson::open("teacher"));
    lesson.states(r"With \( \gamma = 0 \) every number is \( \beta \)");
    teacher.states(r"With \( \gamma = 0 \) all of them are \( \beta \).");
    lesson.states("numbers around 1,000 and a spread of 1 the squares are near 1,000,000, and float32 has about seven digits");
    // Near a million a float32 has a sixteenth as its last digit: 4,096 such errors in a sum of 4,096 millions.
    assert_eq!(1e6f32.next_up() - 1e6, 0.0625);
    lesson.states(r"<em>biased</em> variance, divided by \( m \).");
    lesson.states(r"<em>unbiased</em> one, divided by \( m - 1 \).");
    lesson.states(r"Divide the sum by the count \( m \), or by \( m - 1 \)?");
    teacher.states(r"Of \( m \) numbers the two variances differ by the factor \( m / (m - 1) \), which is 4/3 for four.");
    let school = &mut school();
    for m in [2u32, 4, 9, 100] {
        let found = value(school, "variance", json!({ "mean": 0.5, "spread": 1.0, "count": m }));
        let factor = number(&found["unbiased"]) / number(&found["twin"]);
        near(&json!(factor), f64::from(m) / f64::from(m - 1), 1e-6);
    }
}

/// What a step of `csgd_step` makes of `members` filters of `columns` weights in one cluster.
struct Step {
    lr: f64,
    momentum: f64,
    decay: f64,
    strength: f64,
}

impl Step {
    fn run(&self, gradients: &[f32], w: Vec<f32>, v: Vec<f32>, members: usize) -> [Vec<f32>; 2] {
        let (len, columns) = (w.len(), w.len() / members);
        let params = json!({
            "items": columns, "segments": 1, "decayed": len, "nesterov": 0,
            "lr": self.lr, "momentum": self.momentum, "weight_decay": self.decay, "strength": self.strength,
        });
        let segments = bits(&[0, 0, members as u32, columns as u32]);
        let rows: Vec<u32> = (0..members).map(|row| (row * columns) as u32).collect();
        let arrays = vec![gradients.to_vec(), vec![0.0; 5], segments, bits(&rows), w, v];
        twin("csgd_step", params, arrays, &[len, len]).arrays.try_into().expect("weights and velocities")
    }
}

/// A float32 constant, as the library has it, in f64.
fn rounded(x: f64) -> f64 {
    f64::from(x as f32)
}

#[test]
fn steps_are_what_the_formulas_say() {
    let lesson = Lesson::open("05-sgd");
    lesson.states(r"by the learning rate \( \tau \):</p> \[ w \gets w - \tau \cdot g \]");
    lesson.states(r"\[ v \gets \mu \cdot v + g \;\; \text{then} \;\; w \gets w - \tau \cdot v \]");
    lesson.states(r"Add \( \eta \cdot w \) to the gradient");
    lesson.states(r"With \( \mu = 0.9 \) a gradient that always points one way adds up to ten times itself");
    let (lr, mu, eta) = (0.07, 0.9, 0.03);
    let len = 20;
    let (w, v, g) = (numbers(len, 1), numbers(len, 2), numbers(len, 3));
    let sgd = |params: Value| {
        let arrays = vec![g.clone(), vec![0.0; 5], w.clone(), v.clone()];
        twin("sgd_step", params, arrays, &[len, len]).arrays
    };
    let plain: Vec<f64> = (0..len).map(|i| f64::from(w[i]) - rounded(lr) * f64::from(g[i])).collect();
    equal_within(&sgd(json!({ "len": len, "lr": lr }))[0], &plain, 2e-7);
    // Half of the weights decay.
    let decayed = len / 2;
    let params = json!({ "len": len, "lr": lr, "momentum": mu, "decayed": decayed, "weight_decay": eta });
    let gradient =
        |i: usize| f64::from(g[i]) + if i < decayed { rounded(eta) * f64::from(w[i]) } else { 0.0 };
    let velocity: Vec<f64> = (0..len).map(|i| rounded(mu) * f64::from(v[i]) + gradient(i)).collect();
    let weights: Vec<f64> = (0..len).map(|i| f64::from(w[i]) - rounded(lr) * velocity[i]).collect();
    let found = sgd(params);
    equal_within(&found[0], &weights, 5e-7);
    equal_within(&found[1], &velocity, 5e-7);
}

#[test]
fn the_centripetal_term_is_what_the_formula_says() {
    let lesson = Lesson::open("05-sgd");
    lesson.states(
        r"\[ g'_j = \mean_{k \in H} (g_k) + \eta \cdot w_j + \epsilon \cdot (w_j - \mean_{k \in H} (w_k)) \]",
    );
    let (members, columns) = (4, 5);
    let len = members * columns;
    let (w, v, g) = (numbers(len, 1), numbers(len, 2), numbers(len, 3));
    let mean = |of: &[f32], column: usize| -> f64 {
        (0..members).map(|k| f64::from(of[k * columns + column])).sum::<f64>() / members as f64
    };
    for (lr, mu, eta, eps) in [(0.05, 0.0, 0.0, 0.3), (0.05, 0.9, 0.02, 0.3), (0.5, 0.5, 0.1, 1.7)] {
        let step = Step { lr, momentum: mu, decay: eta, strength: eps };
        let [found_w, found_v] = step.run(&g, w.clone(), v.clone(), members);
        let term = |i: usize| {
            let (column, w_j) = (i % columns, f64::from(w[i]));
            mean(&g, column) + rounded(eta) * w_j + rounded(eps) * (w_j - mean(&w, column))
        };
        let velocity: Vec<f64> = (0..len).map(|i| rounded(mu) * f64::from(v[i]) + term(i)).collect();
        let weights: Vec<f64> = (0..len).map(|i| f64::from(w[i]) - rounded(lr) * velocity[i]).collect();
        equal_within(&found_v, &velocity, 5e-7);
        equal_within(&found_w, &weights, 5e-7);
    }

    lesson.states(
        r"without momentum, one step is</p> \[ d \gets (1 - \tau \cdot (\epsilon + \eta)) \cdot d \]",
    );
    lesson.states("The averaged gradient is the same in both, so it drops out.");
    for (lr, eta, eps) in [(0.05, 0.0, 0.3), (0.2, 0.1, 0.5), (0.5, 0.0, 2.0), (0.5, 0.1, 3.0)] {
        let step = Step { lr, momentum: 0.0, decay: eta, strength: eps };
        let [found, _] = step.run(&g, w.clone(), vec![0.0; len], members);
        let apart = |of: &[f32], j: usize| -> Vec<f64> {
            (0..columns).map(|i| f64::from(of[j * columns + i]) - f64::from(of[i])).collect()
        };
        for j in 1..members {
            let factor = 1.0 - rounded(lr) * (rounded(eps) + rounded(eta));
            let expected: Vec<f64> = apart(&w, j).iter().map(|d| factor * d).collect();
            let found: Vec<f32> = apart(&found, j).iter().map(|&d| d as f32).collect();
            equal_within(&found, &expected, 1e-6);
        }
    }
    lesson.states(r"the factor is \( 1 - 0.5 \cdot 2 = 0 \), and one step is enough");
    assert_eq!(1.0 - 0.5 * 2.0, 0.0);
    lesson.states(
        "Set momentum to 0.9 and the rate to 0.5 with strength 2: the points swing about the centre.",
    );
    // The first step ends in the centre with a velocity of twice the way there, so the second goes past it.
    let step = Step { lr: 0.5, momentum: 0.9, decay: 0.0, strength: 2.0 };
    let still = vec![0.0; 2];
    let [centre, velocity] = step.run(&still, vec![1.0, -1.0], still.clone(), 2);
    let [past, _] = step.run(&still, centre.clone(), velocity, 2);
    equal_within(&centre, &[0.0, 0.0], 1e-7);
    equal_within(&past, &[-0.9, 0.9], 1e-7);
}

#[test]
fn differences_fall_with_the_sum_of_the_rates() {
    let (lesson, teacher) = (Lesson::open("05-sgd"), Lesson::open("teacher"));
    lesson.states(r"for small steps about</p> \[ \ln \frac{d_{\text{end}}}{d_{\text{start}}} \approx - \frac{\epsilon + \eta}{1 - \mu} \cdot \sum_{t} \tau_t \]");
    // A rate that falls to zero, as in training; the gradient of the data is there, and has no say.
    for (mu, eta, eps) in [(0.0, 0.0, 0.2), (0.5, 0.1, 0.1), (0.9, 0.005, 0.015)] {
        const STEPS: usize = 20_000;
        let (mut w, mut v) = (vec![1.0, -0.5], vec![0.0; 2]);
        let mut sum = 0.0;
        for t in 0..STEPS {
            let lr = 0.002 * (1.0 - t as f64 / STEPS as f64);
            sum += lr;
            [w, v] = Step { lr, momentum: mu, decay: eta, strength: eps }.run(&[0.01, -0.02], w, v, 2);
        }
        let found = ((f64::from(w[0]) - f64::from(w[1])) / 1.5).ln();
        let expected = -(eps + eta) / (1.0 - mu) * sum;
        assert!(expected < -3.0, "{expected}: enough to tell");
        assert!((found / expected - 1.0).abs() < 0.01, "momentum {mu}: {found}, by the formula {expected}");
    }
    teacher.states("Weight decay alone pulls them together too, slowly, since it pulls everything to zero.");
    let found = plane(&mut school(), 0.0, false, json!({ "strength": 0.0, "decay": 0.1, "steps": 100 }));
    near(&found["measured"], 100.0 * (1.0 - 0.05 * 0.1f64).ln(), 1e-4);

    lesson.states(r"In float32, \( e^{-16} \) is one unit in the last digit");
    lesson.states("come 16 <em>nats</em> closer");
    assert_eq!(LOSSLESS, 16.0);
    lesson.states(r"Near \( e^{-16} \), which is \( 10^{-7} \) (−7 on the axis), it stops falling");
    assert_eq!((-16.0 / 10.0f64.ln()).round(), -7.0);
    lesson.states("Here are twelve filters that have two weights each");
    let found = plane(&mut school(), 0.9, false, json!({ "steps": 0 }));
    let points: Vec<Vec<f64>> = serde_json::from_value(found["points"].clone()).expect("points");
    assert!(points.len() == 12 && points.iter().all(|point| point.len() == 2));
    let block = String::from_utf8(read("web/lessons/blocks/plane.ts")).expect("UTF-8");
    assert!(block.contains("points: 12,"));

    lesson.states(r"\[ S \gets (1 - a) \cdot S + a \cdot |d| \]");
    lesson.states(r"So \( S \) falls by at most \( -\ln(1 - a) \) a step: 0.105 nats for the usual 0.1");
    lesson.states("and 16 nats take 152 steps or more");
    assert_eq!(((-0.9f64.ln() * 1e3).round() / 1e3, (LOSSLESS / -0.9f64.ln()).ceil()), (0.105, 152.0));
    // Without momentum each step leaves the same part of d.
    for (a, part) in [(0.1, 0.98), (0.1, 0.7), (0.5, 0.9), (1.0, 0.9)] {
        let kinds = Differences { decays: vec![0.0], statistics: Some(a) };
        let mut contraction = Contraction::new(0.0, Direction::HeavyBall, &kinds);
        let (mut d, mut s) = (1.0f64, 1.0f64);
        for _ in 0..100 {
            s = (1.0 - a) * s + a * d.abs();
            d *= part;
            contraction.step(1.0, 1.0 - part);
        }
        let found = contraction.statistics_log_shrink().expect("there is a batch norm");
        assert!((found - s.ln()).abs() < 1e-9, "{a}, {part}: {found} {}", s.ln());
        assert!(a == 1.0 || found >= 100.0 * (1.0 - a).ln(), "no faster than it forgets");
    }

    lesson.states("the smallest strength whose forecast (and, where it ripples, that of all strengths up to 4 % above it) reaches 18 nats: 16 and a reserve");
    assert_eq!((LOSSLESS, AUTO_TARGET), (16.0, 18.0));
    for steps in [350, 500, 800, 2000] {
        let schedule = Schedule {
            base_lr: 0.03,
            total_steps: steps,
            warmup_steps: 0,
            decay: Decay::Cosine { final_lr: 0.0 },
        };
        let strength = auto_strength(&heavy_ball(0.9), &schedule, AUTO_TARGET).expect("enough steps");
        let nats = |strength| {
            -assess(&heavy_ball(0.9), &schedule, strength, AUTO_TARGET).expect("in range").0.log_shrink
        };
        for above in 0..5 {
            let found = nats(strength * 1.01f64.powi(above));
            assert!(found >= AUTO_TARGET, "{steps} steps, {above} % above {strength}: {found}");
        }
        assert!(nats(strength * 0.999) < AUTO_TARGET, "{steps} steps: less is enough");
    }
}

#[test]
fn deviation_is_what_the_formula_says() {
    let lesson = Lesson::open("06-clusters");
    lesson.states(r"the sum of squared distances to the cluster’s mean, over all filters:</p> \[ \chi = \sum_{j} \lVert F_j - \mean_{k \in H(j)} (F_k) \rVert^2 \]");
    lesson.states("It is 0 exactly when the members of every cluster are identical.");
    let school = &mut school();
    let layers = call(school, "layers", &json!({}), Vec::new()).expect("the layers");
    lesson.states("two convolutions of 8 and 16 filters");
    assert_eq!((&layers.value[0]["width"], &layers.value[1]["width"]), (&json!(8), &json!(16)));
    for (layer, filters) in layers.value.as_array().expect("a list").iter().zip(&layers.arrays) {
        let width = number(&layer["width"]) as usize;
        let len = filters.len() / width;
        let by_formula = |clusters: &[Vec<usize>], filters: &[f32]| -> f64 {
            let at = |filter: usize, i: usize| f64::from(filters[filter * len + i]);
            let distance = |cluster: &Vec<usize>, j: usize, i: usize| {
                let mean = cluster.iter().map(|&k| at(k, i)).sum::<f64>() / cluster.len() as f64;
                (at(j, i) - mean).powi(2)
            };
            let of = |cluster: &Vec<usize>| -> f64 {
                cluster.iter().map(|&j| (0..len).map(|i| distance(cluster, j, i)).sum::<f64>()).sum()
            };
            clusters.iter().map(of).sum()
        };
        // What the GPU measures, by its twin: one number for each cluster.
        let kernel = |clusters: &[Vec<usize>], filters: &[f32]| -> f64 {
            let (mut segments, mut members) = (Vec::new(), Vec::new());
            for (i, cluster) in clusters.iter().enumerate() {
                segments.extend([(i * len) as u32, members.len() as u32, cluster.len() as u32, len as u32]);
                members.extend(cluster.iter().map(|&row| (row * len) as u32));
            }
            let params = json!({ "segments": clusters.len() });
            let arrays = vec![bits(&segments), bits(&members), filters.to_vec()];
            let found = twin("cluster_deviation", params, arrays, &[clusters.len()]);
            found.arrays[0].iter().map(|&chi| f64::from(chi)).sum()
        };
        for (method, keep) in [
            ("kmeans", width / 2),
            ("even", width / 2),
            ("imbalanced", width / 2),
            ("even", 1),
            ("kmeans", 3),
        ] {
            let asked =
                json!({ "layer": layer["name"], "method": method, "keep": keep, "seed": 0, "curve": false });
            let found = value(school, "cluster", asked);
            let clusters: Vec<Vec<usize>> = serde_json::from_value(found["clusters"].clone()).expect("lists");
            let expected = by_formula(&clusters, filters);
            near(&json!(number(&found["chi"]) / expected), 1.0, 1e-6);
            near(&json!(kernel(&clusters, filters) / expected), 1.0, 1e-5);
            // Identical members, and nothing else, have none.
            let mut same = filters.clone();
            for cluster in &clusters {
                for &j in cluster {
                    same.copy_within(cluster[0] * len..(cluster[0] + 1) * len, j * len);
                }
            }
            assert!(kernel(&clusters, &same) < 1e-10);
            let large = clusters.iter().find(|cluster| cluster.len() > 1).expect("a cluster");
            same[large[1] * len] += 0.1;
            assert!(kernel(&clusters, &same) > 1e-3);
        }
    }
    let clusters = |school: &mut School, method: &str| -> Vec<Vec<usize>> {
        let asked = json!({ "layer": "conv2", "method": method, "keep": 8, "seed": 0, "curve": false });
        serde_json::from_value(value(school, "cluster", asked)["clusters"].clone()).expect("lists")
    };
    lesson.states("with 16 filters and 8 clusters 0 and 1, 2 and 3, and so on");
    assert_eq!(clusters(school, "even"), (0..8).map(|i| vec![2 * i, 2 * i + 1]).collect::<Vec<_>>());
    lesson.states("puts one large cluster together and leaves the others alone");
    let mut sizes: Vec<usize> = clusters(school, "imbalanced").iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 1, 1, 1, 1, 1, 9]);
    lesson.states("it is done ten times from different beginnings, and the best is kept");
    assert_eq!(Clustering::default(), Clustering::KMeans { starts: 10 });
}

#[test]
fn the_networks_were_made_as_stated() {
    let (clusters, cut, teacher) =
        (Lesson::open("06-clusters"), Lesson::open("07-surgery"), Lesson::open("teacher"));
    let header = |name: &str| {
        let bytes = read(&format!("web/lessons/data/{name}.safetensors"));
        Checkpoint::from_bytes(name, &bytes).expect("a checkpoint")
    };
    let (base, wide) = (header("base"), header("wide"));
    clusters.states("each with batch norm, ReLU and pooling, and one linear layer");
    let of = |kind: &str| base.model.graph.nodes.iter().filter(|node| node.op.type_name() == kind).count();
    assert_eq!(["Conv2d", "BatchNorm2d", "Relu", "MaxPool2d", "Linear"].map(of), [2, 2, 2, 2, 1]);
    let command = "centripetal train lenet --data embedded --epochs 6 --batch 50 --lr 0.05 --weight-decay 5e-4 --seed 1 --device cpu --out base";
    clusters.states(command);
    teacher.states(command);
    clusters.states("trained on 5,000 pictures of Fashion-MNIST");
    let run = base.training.as_ref().expect("how it was trained");
    let schedule = &run.config.schedule;
    assert_eq!((run.images, run.config.batch, run.step), (5000, 50, 6 * 5000 / 50));
    assert_eq!((schedule.base_lr, run.config.sgd.weight_decay, base.provenance.seed), (0.05, 5e-4, 1));
    assert_eq!(base.provenance.data, "Fashion-MNIST");
    cut.states("after eight epochs of centripetal SGD with half of all filters to go");
    let run = wide.training.as_ref().expect("how it was trained");
    assert_eq!(run.step as usize, 8 * run.images / run.config.batch);
    assert!(run.config.centripetal.is_some());
    let found = wide.clusters.as_ref().expect("clusters");
    for (name, kept) in [("conv1", 4), ("conv2", 8)] {
        let partition = found.of_node(base.model.graph.find(name).expect("a layer")).expect("its clusters");
        assert_eq!((partition.len(), partition.channels()), (kept, 2 * kept));
    }
    let test = {
        let names = ["train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"];
        let names = names.map(|name| format!("{name}-ubyte.gz"));
        let files = names.clone().map(|name| read(&format!("src/data/embedded/{name}")));
        let sources: Vec<_> =
            names.iter().zip(&files).map(|(name, bytes)| centripetal::data::Source { name, bytes }).collect();
        let splits = centripetal::data::files::open(&sources).expect("the data set");
        assert_eq!(splits.train.len(), 5000);
        splits.test
    };
    clusters.states("of 1,000 others right");
    assert_eq!(test.len(), 1000);

    // What `info` and `prune` print of these networks in the lab.
    let graph = &base.model.graph;
    let slim = surgery::cut(&wide.model, found).expect("cuts");
    let bytes = |model: &Model| 4 * model.tensors.values().map(|tensor| tensor.data.len()).sum::<usize>();
    let (before, after) = (bytes(&base.model) as f64 / 1024.0, bytes(&slim) as f64 / 1024.0);
    let conv2 = base.model.tensors["conv2.weight"].data.len() as u64;
    teacher.states(&format!("conv2 Conv2d 16x14x14 225,792 {}", grouped(conv2)));
    let macs = [graph, &slim.graph].map(|graph| graph.macs().expect("counts") as f64);
    let params = [graph, &slim.graph].map(Graph::parameter_count);
    teacher.states(&format!(
        "{:.1} k MACs an image, {} parameters, {before:.1} KiB",
        macs[0] / 1e3,
        grouped(params[0])
    ));
    let less = |before: f64, after: f64| format!("-{:.1} %", 100.0 * (1.0 - after / before));
    teacher.states(&format!(
        "MACs an image {:.1} k {:.1} k {}",
        macs[0] / 1e3,
        macs[1] / 1e3,
        less(macs[0], macs[1])
    ));
    let [wide_params, slim_params] = params;
    teacher.states(&format!(
        "parameters {} {} {}",
        grouped(wide_params),
        grouped(slim_params),
        less(wide_params as f64, slim_params as f64)
    ));
    teacher.states(&format!("size {before:.1} KiB {after:.1} KiB {}", less(before, after)));
    for line in [
        "1 channels input: stay",
        "8 channels conv1 decides",
        "16 channels conv2 decides",
        "10 channels fc: stay",
    ] {
        teacher.states(line);
    }
    let shapes = graph.shapes().expect("shapes");
    let channels = ["input", "conv1", "conv2", "fc"].map(|name| shapes[graph.find(name).expect("a layer")].c);
    assert_eq!(channels, [1, 8, 16, 10]);

    // What the lab says of its own tables.
    teacher.states("accuracy 86.40 % 85.80 % 85.80 %");
    teacher.states("(86.40 to 85.80; none.)");
    teacher.states("accuracy 86.40 % 86.40 % 55.40 % 86.90 %");
    teacher.states("costs 31.0 points here and none in step 3");
    assert_eq!(format!("{:.1}", 86.4 - 55.4), "31.0");
    teacher.states("it even ends a point higher");
    assert_eq!((86.9f64 - 85.8).round(), 1.0);
    teacher.states("ms an image 0.0384 0.0206 1.87x as fast");
    let (least, most) = (0.03835 / 0.02065, 0.03845 / 0.02055);
    assert!(least < 1.87 && 1.87 < most, "{least} {most}");
    Lesson::open("10-how-far").states("at 1/2 of all filters 3.3 times fewer multiply-adds gave about twice the speed, with native code on the CPU (step 3 of the lab");
    assert_eq!(1.87f64.round(), 2.0);
}

#[test]
fn equal_channels_merge_as_the_algebra_says() {
    let lesson = Lesson::open("07-surgery");
    lesson.states(r"\[ y = w_a * x_a + w_b * x_b + \ldots \]");
    lesson.states(r"Now let the two channels be equal, \( x_a = x_b \).");
    lesson.states(r"\[ w_a * x_a + w_b * x_a = (w_a + w_b) * x_a \]");
    lesson.states("The star stands for the sum over the window.");
    lesson.states("With four equal channels it is the same with four summands.");
    let (side, taps) = (6, 9);
    let conv = |channels: usize, x: &[f32], w: &[f32]| {
        let (params, y) = conv_params(&Conv2d::new(channels, 1, [3, 3]), 1, Shape::new(channels, side, side));
        let arrays = vec![x.to_vec(), w.to_vec(), Vec::new()];
        twin("conv2d_forward", params, arrays, &[y.h * y.w]).arrays.swap_remove(0)
    };
    // The star, in f64.
    let star = |w: &[f64], x: &[f32]| -> Vec<f64> {
        let at = |i: usize, tap: usize| f64::from(x[(i / 4 + tap / 3) * side + i % 4 + tap % 3]);
        (0..16).map(|i| (0..taps).map(|tap| w[tap] * at(i, tap)).sum()).collect()
    };
    let add = |parts: &[Vec<f64>]| -> Vec<f64> {
        (0..parts[0].len()).map(|i| parts.iter().map(|part| part[i]).sum()).collect()
    };
    let channels: Vec<Vec<f32>> = (0..4).map(|seed| numbers(side * side, 10 + seed)).collect();
    let weights: Vec<Vec<f32>> = (0..4).map(|seed| numbers(taps, 20 + seed)).collect();
    let terms: Vec<Vec<f64>> = (0..4).map(|c| star(&wide(&weights[c]), &channels[c])).collect();
    equal(&conv(4, &channels.concat(), &weights.concat()), &add(&terms));
    for count in [2, 4] {
        let all = vec![channels[0].clone(); count].concat();
        let summed = add(&weights[..count].iter().map(|w| wide(w)).collect::<Vec<_>>());
        let merged = star(&summed, &channels[0]);
        equal(&conv(count, &all, &weights[..count].concat()), &merged);
        let rounded: Vec<f32> = summed.iter().map(|&w| w as f32).collect();
        equal(&conv(1, &channels[0], &rounded), &merged);
    }

    lesson.states("In a linear layer behind a flatten, each channel owns a block of inputs, one for each pixel, and the blocks are summed.");
    // The library's cut of the network of the lesson: the weights of the layers behind are those sums.
    let bytes = read("web/lessons/data/wide.safetensors");
    let checkpoint = Checkpoint::from_bytes("wide", &bytes).expect("a checkpoint");
    let (model, clusters) = (checkpoint.model, checkpoint.clusters.expect("clusters"));
    let slim = surgery::cut(&model, &clusters).expect("cuts");
    let of =
        |name: &str| clusters.of_node(model.graph.find(name).expect("a layer")).expect("clusters").clusters();
    let (first, second) = (of("conv1").to_vec(), of("conv2").to_vec());
    let weight = |filter: usize, channel: usize, tap: usize| {
        f64::from(model.tensors["conv2.weight"].data[(filter * 8 + channel) * taps + tap])
    };
    let mut expected = Vec::new();
    for (cluster, from) in second.iter().flat_map(|cluster| first.iter().map(move |from| (cluster, from))) {
        expected
            .extend((0..taps).map(|tap| -> f64 { from.iter().map(|&c| weight(cluster[0], c, tap)).sum() }));
    }
    equal_within(&slim.tensors["conv2.weight"].data, &expected, 2e-7);
    let fc = &model.tensors["fc.weight"].data;
    let mut expected = Vec::new();
    for (answer, from) in (0..10).flat_map(|answer| second.iter().map(move |from| (answer, from))) {
        let at = |channel: usize, pixel: usize| f64::from(fc[(answer * 16 + channel) * 49 + pixel]);
        expected.extend((0..49).map(|pixel| -> f64 { from.iter().map(|&c| at(c, pixel)).sum() }));
    }
    equal_within(&slim.tensors["fc.weight"].data, &expected, 2e-7);
    // Rows are kept, not summed.
    for name in ["bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"] {
        let kept: Vec<f32> = first.iter().map(|cluster| model.tensors[name].data[cluster[0]]).collect();
        assert_eq!(slim.tensors[name].data, kept, "{name}");
    }

    lesson.states("Its members agree to six digits or more.");
    let names = ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"];
    let mut most = 0.0f64;
    for name in names {
        let row =
            |row: usize| model.tensors[name].data.chunks_exact(model.tensors[name].data.len() / 8).nth(row);
        let survivor = row(first[0][0]).expect("a row");
        for member in first[0].iter().map(|&member| row(member).expect("a row")) {
            for (a, b) in member.iter().zip(survivor) {
                most = most.max((f64::from(*a) / f64::from(*b) - 1.0).abs());
            }
        }
    }
    assert!((1e-7..1e-6).contains(&most), "{most}");
}

#[test]
fn a_channel_is_what_the_formula_says() {
    let lesson = Lesson::open("07-surgery");
    lesson.states(r"\[ x_a = \max(\gamma_a \cdot \frac{F_a * \text{input} - \text{mean}_a}{\sqrt{\text{var}_a + \epsilon}} + \beta_a, 0) \]");
    lesson.states("So five things must agree");
    let bytes = read("web/lessons/data/wide.safetensors");
    let model = Checkpoint::from_bytes("wide", &bytes).expect("a checkpoint").model;
    let tensor = |name: &str| model.tensors[name].data.clone();
    let (filters, shape) = (tensor("conv1.weight"), Shape::new(1, 12, 12));
    let [gamma, beta, mean, var] =
        ["weight", "bias", "running_mean", "running_var"].map(|name| tensor(&format!("bn1.{name}")));
    let eps = 0.00001;
    let input = numbers(144, 1);
    let conv = Conv2d::same(1, 8, 3);
    let (params, _) = conv_params(&conv, 1, shape);
    let len = 8 * 144;
    let y = twin("conv2d_forward", params, vec![input.clone(), filters.clone(), Vec::new()], &[len]).arrays;
    let params = json!({ "n": 1, "c": 8, "pixels": 144, "eps": eps });
    let arrays = vec![y[0].clone(), gamma.clone(), beta.clone(), mean.clone(), var.clone()];
    let y = twin("batch_norm_inference", params, arrays, &[len]).arrays;
    let found = twin("relu_forward", json!({ "len": len }), y, &[len]).arrays.swap_remove(0);
    let by_formula = |a: usize, i: usize| {
        let pixel = |tap: usize| -> f64 {
            let (h, v) = ((i / 12 + tap / 3).wrapping_sub(1), (i % 12 + tap % 3).wrapping_sub(1));
            if h < 12 && v < 12 { f64::from(input[h * 12 + v]) } else { 0.0 }
        };
        let sum: f64 = (0..9).map(|tap| f64::from(filters[a * 9 + tap]) * pixel(tap)).sum();
        let [gamma, beta, mean, var] = [&gamma, &beta, &mean, &var].map(|of| f64::from(of[a]));
        (gamma * (sum - mean) / (var + eps).sqrt() + beta).max(0.0)
    };
    let expected: Vec<f64> = (0..len).map(|at| by_formula(at / 144, at % 144)).collect();
    equal(&found, &expected);
    assert!(expected.iter().filter(|&&x| x > 0.0).count() > len / 10);

    lesson.states("run together by themselves, a tenth of the way with each batch");
    let x = numbers(30, 2);
    let before = vec![vec![0.0; 2], vec![0.0; 2], vec![0.3, -0.4], vec![1.5, 2.0]];
    let params = json!({ "n": 1, "c": 2, "pixels": 30, "eps": eps, "momentum": 0.1 });
    let arrays = [vec![[x.clone(), x].concat()], before.clone()].concat();
    let found = twin("batch_norm_statistics", params, arrays, &[2; 4]).arrays;
    for statistic in [2, 3] {
        let apart = |of: &[Vec<f32>]| f64::from(of[statistic][0]) - f64::from(of[statistic][1]);
        near(&json!(apart(&found) / apart(&before)), 0.9, 1e-6);
    }
}

#[test]
fn what_is_added_is_tied() {
    let lesson = Lesson::open("08-couplings");
    lesson.states(r"A residual block computes \( y = f(x) + x \).");
    lesson.states("Delete channel 3 from one of them, and 15 channels would be added to 16.");
    let (x, f) = (numbers(40, 1), numbers(40, 2));
    let expected: Vec<f64> = f.iter().zip(&x).map(|(&f, &x)| f64::from(f) + f64::from(x)).collect();
    let y = twin("add_forward", json!({ "len": 40 }), vec![f, x], &[40]).arrays;
    equal_within(&y[0], &expected, 1e-7);
    let config = ModelConfig::new(Shape::new(3, 32, 32), 10);
    let graph = models::build("resnet20", &config).expect("builds");
    let shapes = graph.shapes().expect("shapes");
    assert_eq!(shapes[graph.find("layer1.0.conv2").expect("a layer")].c, 16);
    lesson.states("One channel, 15 layers in a ResNet-20.");
    let coupling = Coupling::derive(&graph, &[]).expect("derives");
    let tied =
        &coupling.groups.iter().find(|group| group.pacesetter == graph.find("conv1")).expect("its group");
    assert_eq!(tied.members.len(), 15);
    lesson.states("Option B puts a convolution of 1 × 1 there");
    let kernels: Vec<[usize; 2]> = graph
        .nodes
        .iter()
        .filter(|node| node.name.contains("shortcut") || node.name.contains("downsample"))
        .filter_map(|node| match &node.op {
            centripetal::ops::Op::Conv2d(conv) => Some(conv.kernel),
            _ => None,
        })
        .collect();
    assert_eq!(kernels, [[1, 1]; 2]);
    lesson.states(r"So channel \( i \) of the first stage is channel \( i + 8 \) of the second, channel \( i \) of the second is channel \( i + 16 \) of the third");
    lesson.states("it takes every other pixel and adds channels of zeros before and after");
    let source: Vec<u32> = (0..32u32).map(|k| if (8..24).contains(&k) { k - 8 } else { u32::MAX }).collect();
    let x = numbers(16 * 36, 3);
    let params =
        json!({ "n": 1, "c": 16, "h": 6, "w": 6, "k": 32, "p": 3, "q": 3, "stride_h": 2, "stride_w": 2 });
    let y = twin("channel_pad_forward", params, vec![x.clone(), bits(&source)], &[32 * 9]).arrays;
    let expected: Vec<f64> = (0..32 * 9)
        .map(|at| {
            let (k, p, q) = (at / 9, at % 9 / 3, at % 3);
            if (8..24).contains(&k) { f64::from(x[(k - 8) * 36 + 2 * p * 6 + 2 * q]) } else { 0.0 }
        })
        .collect();
    equal_within(&y[0], &expected, 0.0);
}

#[test]
fn a_proximal_step_is_that_of_the_penalty() {
    let lesson = Lesson::open("09-zero-or-identical");
    lesson.states(r"\[ L + \lambda \cdot \sum_{j} \lVert F_j \rVert \]");
    lesson.states(r"each filter is made shorter by \( \tau \cdot \lambda \), and one that is shorter than that becomes zero");
    let (rows, len) = (5, 9);
    let (tau, lambda) = (0.1, 4.0);
    let mut filters = numbers(rows * len, 1);
    filters[..len].iter_mut().for_each(|x| *x *= 0.1);
    let table: Vec<u32> = (0..rows).flat_map(|row| [(row * len) as u32, len as u32]).collect();
    let params = json!({ "rows": rows, "amount": tau * lambda });
    let arrays = vec![vec![0.0; 5], bits(&table), filters.clone()];
    let found = twin("shrink_rows", params, arrays, &[rows * len]).arrays.swap_remove(0);
    let norm = |filter: &[f64]| filter.iter().map(|x| x * x).sum::<f64>().sqrt();
    for j in 0..rows {
        let (before, after) = (wide(&filters[j * len..][..len]), wide(&found[j * len..][..len]));
        let length = norm(&before);
        let shorter = (length - tau * lambda).max(0.0);
        assert_eq!(j == 0, shorter == 0.0, "{length}");
        let expected: Vec<f64> = before.iter().map(|x| x * shorter / length).collect();
        equal_within(&found[j * len..][..len], &expected, 2e-7);
        // The step's end is the filter that has the least of the penalty and half the squared way over the rate.
        let cost = |filter: &[f64]| {
            let way: f64 = filter.iter().zip(&before).map(|(a, b)| (a - b).powi(2)).sum();
            lambda * norm(filter) + way / (2.0 * tau)
        };
        for (i, by) in (0..len).flat_map(|i| [(i, 1e-3), (i, -1e-3)]) {
            let mut moved = after.clone();
            moved[i] += by;
            assert!(cost(&moved) > cost(&after), "filter {j}, weight {i}: {} {}", cost(&moved), cost(&after));
        }
    }
    lesson.states(r"from 24 to below \( 10^{-12} \)");
    lesson.states(
        "With \\( k \\) identical filters the next layer has \\( k \\) sets of weights for the same channel",
    );
}

#[test]
fn multiply_adds_fall_with_the_square() {
    let lesson = Lesson::open("10-how-far");
    lesson.states(r"\[ \text{MACs} \approx r^2 \cdot \text{MACs}_{\text{before}} \]");
    lesson.states(r"With \( r = 5/8 \) that is 39 %");
    assert_eq!((100.0 * (5.0 / 8.0f64).powi(2)).round(), 39.0);
    lesson.states(r"near to the \( 1 - 1/4 \) of the formula");
    let macs =
        |c: usize, k: usize| Conv2d::same(c, k, 3).macs(&[Shape::new(c, 7, 6)], Shape::new(k, 7, 6)) as f64;
    for eighths in 1..8 {
        let r = eighths as f64 / 8.0;
        assert_eq!(macs(8 * eighths, 16 * eighths) / macs(64, 128), r * r);
        // The first layer keeps the picture's channels, the last the classes.
        assert_eq!(macs(3, 16 * eighths) / macs(3, 128), r);
    }
}
