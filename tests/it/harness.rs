//! Runs one kernel on every executor and compares buffer by buffer: twin, fast path, each WGSL variant on the GPU.

use centripetal::device::{Access, CpuPath, Device, DeviceChoice, Dispatch, Kernel, Params};
use centripetal::rng::Rng;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Set to 1 where there is no GPU: the GPU part of the tests is then skipped, and says so.
const SKIP_GPU: &str = "CENTRIPETAL_SKIP_GPU";

/// An output buffer as it is before the kernel runs.
#[derive(Debug, Clone)]
pub(crate) enum Output {
    /// So many words of NaN: writing nothing must differ from writing zero.
    Overwritten(usize),
    /// Numbers that the kernel adds to.
    Updated(Vec<f32>),
}

impl Output {
    fn content(&self) -> Vec<f32> {
        match self {
            Output::Overwritten(words) => vec![f32::NAN; *words],
            Output::Updated(numbers) => numbers.clone(),
        }
    }
}

/// How far two results may differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerance {
    /// Sum of squared differences over sum of squares.
    pub(crate) nmse: f64,
    /// Of one element, as a part of its size plus the root mean square of all.
    pub(crate) worst: f64,
}

/// Two orders of the same f32 additions.
pub(crate) const ROUNDING: Tolerance = Tolerance { nmse: 1e-11, worst: 3e-5 };

/// `len` numbers in [-1, 1), the same for the same `seed`.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| 2.0 * rng.uniform() - 1.0).collect()
}

/// The GPU, opened once; `None` when skipped.
///
/// # Panics
/// When there is none and nobody said to skip.
pub(crate) fn gpu() -> Option<&'static Device> {
    static GPU: OnceLock<Device> = OnceLock::new();
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    if std::env::var(SKIP_GPU).is_ok_and(|value| value == "1") {
        let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
        println!("skipped: GPU check {count}, since {SKIP_GPU}=1");
        return None;
    }
    Some(GPU.get_or_init(|| match pollster::block_on(Device::open(DeviceChoice::Gpu)) {
        Ok(device) => device,
        Err(error) => panic!(
            "{error}\nThe tests need a Vulkan, Metal or DX12 adapter; a software one will do (Debian, Ubuntu: \
             apt-get install mesa-vulkan-drivers). To test without a GPU, set {SKIP_GPU}=1."
        ),
    }))
}

/// The plain loops.
pub(crate) fn twins() -> Device {
    Device::cpu_with(CpuPath::Twins, "test")
}

/// The outputs of one run of `kernel`, with the WGSL of `variant` where `device` is a GPU.
pub(crate) fn run(
    device: &Device,
    kernel: &'static Kernel,
    variant: usize,
    params: &impl Params,
    inputs: &[&[f32]],
    outputs: &[Output],
) -> Vec<Vec<f32>> {
    let contents = inputs.iter().map(|input| input.to_vec()).chain(outputs.iter().map(Output::content));
    let mut slices = Vec::new();
    for (binding, content) in kernel.bindings.iter().zip(contents) {
        let buffer = device.buffer(binding.name, content.len()).unwrap_or_else(|error| panic!("{error}"));
        device.write(&buffer.all(), &content);
        slices.push(buffer.all());
    }
    let dispatch = Dispatch {
        kernel,
        variant,
        params: bytemuck::bytes_of(params).to_vec(),
        bindings: slices.clone(),
        label: "test".to_owned(),
    };
    let list = device.record(vec![dispatch]).unwrap_or_else(|error| panic!("{}: {error}", kernel.name));
    device.run(&[&list]);
    let written = kernel.bindings.iter().zip(&slices).filter(|(b, _)| b.access == Access::Write);
    written
        .map(|(binding, slice)| {
            let read = pollster::block_on(device.read(slice));
            read.unwrap_or_else(|error| panic!("{}, {}: {error}", kernel.name, binding.name))
        })
        .collect()
}

/// Fails unless `found` is `expected` within `tolerance`; says where they differ most.
pub(crate) fn compare(what: &str, expected: &[f32], found: &[f32], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let squares: f64 = expected.iter().map(|&x| f64::from(x).powi(2)).sum();
    let rms = (squares / expected.len().max(1) as f64).sqrt().max(f64::from(f32::MIN_POSITIVE));
    let mut error = 0.0;
    let mut worst = (0.0, 0);
    for (i, (&expected, &found)) in expected.iter().zip(found).enumerate() {
        let difference = f64::from(found) - f64::from(expected);
        let relative = difference.abs() / (rms + f64::from(expected).abs());
        error += difference.powi(2);
        if relative > worst.0 || relative.is_nan() {
            worst = (relative, i);
        }
        assert!(!relative.is_nan(), "{what}: element {i} is {found}, expected {expected}");
    }
    let nmse = error / squares.max(f64::from(f32::MIN_POSITIVE));
    let (relative, i) = worst;
    assert!(
        nmse <= tolerance.nmse && relative <= tolerance.worst,
        "{what}: NMSE {nmse:e}, worst at element {i} of {}: {} instead of {} ({relative:e})",
        expected.len(),
        found[i],
        expected[i]
    );
}

/// Compares the fast path, if there is one, with the twin.
pub(crate) fn check_fast(
    case: &str,
    kernel: &'static Kernel,
    params: &impl Params,
    inputs: &[&[f32]],
    outputs: &[Output],
) {
    if kernel.fast.is_some() {
        compare_with_twin(case, "fast path", &Device::cpu("test"), 0, kernel, params, inputs, outputs);
    }
}

/// The WGSL variants of `kernel` that the GPU can run; the others are printed and counted.
fn variants(device: &Device, kernel: &'static Kernel) -> Vec<usize> {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let can_run = |variant: &usize| {
        let shader = &kernel.shaders[*variant];
        let can = device.can_run(shader);
        // Mesa's software adapter has subgroups: there nothing may be left out.
        assert!(can || !device.info().name.contains("llvmpipe"), "{} is not run", shader.name);
        if !can {
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            println!("skipped: subgroup check {count}, {}, since this adapter has none", shader.name);
        }
        can
    };
    (0..kernel.shaders.len()).filter(can_run).collect()
}

/// What runs `kernel`: the twin, the fast path, and every WGSL variant that the GPU can run, each as a device and a variant.
pub(crate) fn executors(kernel: &'static Kernel) -> Vec<(&'static Device, usize)> {
    static CPU: OnceLock<[Device; 2]> = OnceLock::new();
    let cpu = CPU.get_or_init(|| [twins(), Device::cpu("test")]);
    let of_gpu =
        gpu().into_iter().flat_map(|device| variants(device, kernel).into_iter().map(move |v| (device, v)));
    cpu.iter().map(|device| (device, 0)).chain(of_gpu).collect()
}

/// Compares every WGSL variant on the GPU with the twin.
pub(crate) fn check_shaders(
    case: &str,
    kernel: &'static Kernel,
    params: &impl Params,
    inputs: &[&[f32]],
    outputs: &[Output],
) {
    let Some(device) = gpu() else { return };
    let mut fitting = 0;
    for variant in variants(device, kernel) {
        let shader = &kernel.shaders[variant];
        if !shader.fits(bytemuck::bytes_of(params)) {
            continue;
        }
        fitting += 1;
        compare_with_twin(case, shader.name, device, variant, kernel, params, inputs, outputs);
    }
    assert!(fitting > 0, "{case}: no variant of {} fits", kernel.name);
}

/// Compares fast path and WGSL with the twin.
pub(crate) fn check(
    case: &str,
    kernel: &'static Kernel,
    params: &impl Params,
    inputs: &[&[f32]],
    outputs: &[Output],
) {
    check_fast(case, kernel, params, inputs, outputs);
    check_shaders(case, kernel, params, inputs, outputs);
}

fn compare_with_twin(
    case: &str,
    executor: &str,
    device: &Device,
    variant: usize,
    kernel: &'static Kernel,
    params: &impl Params,
    inputs: &[&[f32]],
    outputs: &[Output],
) {
    let expected = run(&twins(), kernel, 0, params, inputs, outputs);
    let found = run(device, kernel, variant, params, inputs, outputs);
    let names = kernel.bindings.iter().filter(|b| b.access == Access::Write).map(|b| b.name);
    for (name, (expected, found)) in names.zip(expected.iter().zip(&found)) {
        let what = format!("{case}: {name} of {} ({executor})", kernel.name);
        compare(&what, expected, found, ROUNDING);
    }
}

#[test]
fn the_comparison_finds_one_wrong_element() {
    let expected = random(1, 100);
    let mut found = expected.clone();
    compare("equal", &expected, &found, ROUNDING);
    for wrong in [found[42] + 1e-3, f32::NAN, f32::INFINITY] {
        found[42] = wrong;
        let outcome = std::panic::catch_unwind(|| compare("wrong", &expected, &found, ROUNDING));
        let message = *outcome.expect_err("passed").downcast::<String>().expect("a message");
        assert!(message.contains("element 42"), "{message}");
    }
}
