//! Runs every kernel on a device and by its CPU twin, and tells how far the two are apart.
//!
//! Drivers have been known to compute wrong numbers silently; this is how a user finds out, in seconds, on the very
//! machine. The [`cases`] are small, seeded and the same everywhere.
//!
//! ```
//! use centripetal::device::Device;
//! use centripetal::selftest::{self, Verdict};
//!
//! # pollster::block_on(async {
//! let checks = selftest::run(&Device::cpu("an example")).await?;
//! assert!(checks.iter().all(|check| check.verdict == Verdict::Passed));
//! # Ok::<(), centripetal::Error>(())
//! # }).unwrap();
//! ```

mod cases;

pub use cases::cases;

use crate::device::{Access, Args, Device, DeviceKind, Dispatch, Kernel, MAX_BINDINGS, PendingRead};
use crate::error::{Error, ErrorKind, Result};
use crate::ops::KERNELS;
use serde::Serialize;
use std::ops::Range;

/// Most [`KernelCheck::nmse`] that passes: different orders of the same f32 additions stay far below.
pub const MAX_NMSE: f64 = 1e-11;

/// Most [`KernelCheck::worst`] that passes.
pub const MAX_WORST: f64 = 3e-5;

/// Below this part of the largest number, a unit in the last place counts as of that part: sums that cancel have small
/// results with the rounding errors of large ones.
const CANCELLATION: f64 = 1.0 / 1024.0;

/// An output buffer of a [`Case`].
#[derive(Debug, Clone)]
pub struct Output {
    /// What it holds before the kernel runs: NaN where the kernel must write, so that writing nothing shows.
    pub before: Vec<f32>,
    /// The words that are integers, which must agree exactly.
    pub integers: Range<usize>,
}

/// Where a case makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Everywhere,
    /// On GPUs alone: long sums are cut into parts only there.
    Gpu,
}

/// One call of a kernel.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is called.
    pub kernel: &'static Kernel,
    /// What is special about it ("stride 2").
    pub name: String,
    /// Bytes of the uniform.
    pub params: Vec<u8>,
    /// Buffers read, in the order of [`Kernel::bindings`].
    pub inputs: Vec<Vec<f32>>,
    /// Buffers written, in the order of [`Kernel::bindings`].
    pub outputs: Vec<Output>,
    /// Where it is run.
    pub scope: Scope,
}

/// Whether a kernel computes what its twin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Within [`MAX_NMSE`] and [`MAX_WORST`].
    Passed,
    /// Not so: do not train on this device.
    Failed,
}

/// One implementation of a kernel against its twin, over all of its cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelCheck {
    /// The kernel's name.
    pub kernel: &'static str,
    /// The WGSL variant's name, or `fast path` on the CPU.
    pub shader: &'static str,
    /// Cases run.
    pub cases: usize,
    /// Largest difference of one number in units in the last place of the twin's number, or of 2^-10 of the buffer's
    /// largest where the number is smaller than that. For information: it depends on the driver and decides nothing.
    pub max_ulp: u64,
    /// Largest normalised mean square error of one buffer: sum of squared differences over sum of squares.
    pub nmse: f64,
    /// Largest difference of one number over the largest number of its buffer.
    pub worst: f64,
    /// Whether it passed.
    pub verdict: Verdict,
}

/// Checks every kernel of the library on `device`: on a GPU every WGSL variant, on the CPU every fast path (a kernel
/// without one runs its twin there, and there is nothing to compare).
///
/// # Errors
/// [`crate::ErrorKind::Device`] when the device fails or refuses a shader.
pub async fn run(device: &Device) -> Result<Vec<KernelCheck>> {
    check_all(device, KERNELS).await
}

/// As [`run`], for the kernel called `name` alone: for those who show the results as they come.
///
/// # Errors
/// As [`run`], and [`crate::ErrorKind::Argument`] for a name that no kernel has.
pub async fn run_kernel(device: &Device, name: &str) -> Result<Vec<KernelCheck>> {
    match KERNELS.iter().find(|kernel| kernel.name == name) {
        Some(kernel) => check_all(device, &[kernel]).await,
        None => {
            Err(Error::new(ErrorKind::Argument, "testing a kernel").expected("the name of one").found(name))
        }
    }
}

async fn check_all(device: &Device, kernels: &[&'static Kernel]) -> Result<Vec<KernelCheck>> {
    let all = cases();
    let on_cpu = device.info().kind == DeviceKind::Cpu;
    let mut started = Vec::new();
    // All is under way before the first wait: a read-back can cost a tenth of a second in a browser.
    for kernel in kernels {
        let of_kernel = all.iter().filter(|case| std::ptr::eq(case.kernel, *kernel));
        let cases: Vec<&Case> = of_kernel.filter(|case| !on_cpu || case.scope == Scope::Everywhere).collect();
        let implementations: Vec<&'static str> = match (on_cpu, kernel.fast) {
            (true, Some(_)) => vec!["fast path"],
            (true, None) => Vec::new(),
            (false, _) => kernel.shaders.iter().map(|shader| shader.name).collect(),
        };
        for (variant, name) in implementations.into_iter().enumerate() {
            if !device.can_run(&kernel.shaders[variant]) {
                continue;
            }
            let fits = |case: &&&Case| on_cpu || kernel.shaders[variant].fits(&case.params);
            let cases: Vec<&Case> = cases.iter().filter(fits).copied().collect();
            started.push(start(device, kernel, variant, name, &cases)?);
        }
    }
    let mut checks = Vec::with_capacity(started.len());
    for check in started {
        checks.push(check.finish().await?);
    }
    Ok(checks)
}

/// Checks WGSL `variant` of `kernel` (the fast path on the CPU) by `cases`, whatever kernel those were made for.
///
/// # Errors
/// As [`run`].
pub async fn check(
    device: &Device,
    kernel: &'static Kernel,
    variant: usize,
    cases: &[&Case],
) -> Result<KernelCheck> {
    start(device, kernel, variant, kernel.shaders[variant].name, cases)?.finish().await
}

impl Case {
    /// What the twin makes of it: the outputs, word by word.
    pub fn expected(&self) -> Vec<Vec<f32>> {
        let mut written: Vec<Vec<f32>> = self.outputs.iter().map(|output| output.before.clone()).collect();
        let mut reads: [&[f32]; MAX_BINDINGS] = Default::default();
        for (read, input) in reads.iter_mut().zip(&self.inputs) {
            *read = input;
        }
        let mut writes: [&mut [f32]; MAX_BINDINGS] = Default::default();
        for (write, output) in writes.iter_mut().zip(&mut written) {
            *write = output;
        }
        (self.kernel.twin)(Args::new(&self.params, reads, writes));
        written
    }
}

/// A check whose results are still on the device.
struct Started {
    check: KernelCheck,
    outputs: Vec<(Range<usize>, Vec<f32>, PendingRead)>,
}

fn start(
    device: &Device,
    kernel: &'static Kernel,
    variant: usize,
    shader: &'static str,
    cases: &[&Case],
) -> Result<Started> {
    let mut dispatches = Vec::with_capacity(cases.len());
    for case in cases {
        let (mut inputs, mut outputs) = (case.inputs.iter(), case.outputs.iter().map(|o| &o.before));
        let mut bindings = Vec::with_capacity(kernel.bindings.len());
        for binding in kernel.bindings {
            let content = match binding.access {
                Access::Read => inputs.next(),
                Access::Write => outputs.next(),
            };
            let content = content.map_or(&[][..], Vec::as_slice);
            let buffer = device.buffer(binding.name, content.len())?;
            device.write(&buffer.all(), content);
            bindings.push(buffer.all());
        }
        let params = case.params.clone();
        dispatches.push(Dispatch { kernel, variant, params, bindings, label: case.name.clone() });
    }
    let list = device.record(dispatches)?;
    device.run(&[&list]);
    let mut outputs = Vec::new();
    for (case, dispatch) in cases.iter().zip(list.dispatches()) {
        let written =
            kernel.bindings.iter().zip(&dispatch.bindings).filter(|(b, _)| b.access == Access::Write);
        for ((output, expected), (_, slice)) in case.outputs.iter().zip(case.expected()).zip(written) {
            outputs.push((output.integers.clone(), expected, device.read_later(slice)));
        }
    }
    let check = KernelCheck {
        kernel: kernel.name,
        shader,
        cases: cases.len(),
        max_ulp: 0,
        nmse: 0.0,
        worst: 0.0,
        verdict: Verdict::Failed,
    };
    Ok(Started { check, outputs })
}

impl Started {
    async fn finish(self) -> Result<KernelCheck> {
        let mut check = self.check;
        for (integers, expected, read) in self.outputs {
            check.add(&expected, &read.wait().await?, &integers);
        }
        let close = check.nmse <= MAX_NMSE && check.worst <= MAX_WORST;
        check.verdict = if close && check.cases > 0 { Verdict::Passed } else { Verdict::Failed };
        Ok(check)
    }
}

impl KernelCheck {
    /// Takes one output buffer into account.
    fn add(&mut self, expected: &[f32], found: &[f32], integers: &Range<usize>) {
        let floats = || {
            let both = expected.iter().zip(found).enumerate();
            both.filter(|(i, _)| !integers.contains(i)).map(|(_, (&a, &b))| (f64::from(a), f64::from(b)))
        };
        let bits = |words: &[f32]| words[integers.clone()].iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        let finite = || floats().filter(|(a, _)| a.is_finite());
        let largest = finite().fold(0.0, |most: f64, (a, _)| most.max(a.abs()));
        let squares: f64 = finite().map(|(a, _)| a * a).sum();
        let mut error = 0.0;
        for (a, b) in floats() {
            // NaN or infinity must be met by the same; any other partner makes the difference infinite.
            let same = a == b || (a.is_nan() && b.is_nan());
            let difference = if same { 0.0 } else { (a - b).abs() };
            if difference > 0.0 || difference.is_nan() {
                self.differ(difference, a, largest);
            }
            error += difference * difference;
        }
        let nmse = if error == 0.0 { 0.0 } else { error / squares };
        self.nmse = self.nmse.max(if nmse.is_nan() { f64::INFINITY } else { nmse });
        if found.len() != expected.len() || bits(expected) != bits(found) {
            self.differ(f64::INFINITY, 0.0, largest);
        }
    }

    fn differ(&mut self, difference: f64, expected: f64, largest: f64) {
        if !difference.is_finite() {
            (self.nmse, self.worst, self.max_ulp) = (f64::INFINITY, f64::INFINITY, u64::MAX);
            return;
        }
        let scale = expected.abs().max(largest * CANCELLATION) as f32;
        let scale = scale.max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(scale.to_bits() + 1)) - f64::from(scale);
        // The cast saturates.
        self.max_ulp = self.max_ulp.max((difference / unit).round() as u64);
        self.worst = self.worst.max(difference / largest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(expected: &[f32], found: &[f32], integers: Range<usize>) -> KernelCheck {
        let mut check = KernelCheck {
            kernel: "k",
            shader: "s",
            cases: 1,
            max_ulp: 0,
            nmse: 0.0,
            worst: 0.0,
            verdict: Verdict::Failed,
        };
        check.add(expected, found, &integers);
        check
    }

    #[test]
    fn counts_units_in_the_last_place() {
        let next = f32::from_bits(1.0f32.to_bits() + 3);
        assert_eq!(checked(&[1.0, 0.5], &[next, 0.5], 0..0).max_ulp, 3);
        // 2^-20 beside 1 is what a sum left that cancelled: counted in units of 2^-10.
        let small = 2.0f32.powi(-20);
        assert_eq!(checked(&[1.0, small], &[1.0, small + 2.0f32.powi(-33)], 0..0).max_ulp, 1);
    }

    #[test]
    fn measures_errors_against_the_buffer() {
        let check = checked(&[3.0, -4.0], &[3.0, -4.5], 0..0);
        assert_eq!(check.worst, 0.125);
        assert_eq!(check.nmse, 0.25 / 25.0);
    }

    #[test]
    fn nothing_hides_a_number_that_is_not_finite() {
        for found in [f32::NAN, f32::INFINITY] {
            let check = checked(&[1.0, 2.0], &[1.0, found], 0..0);
            assert_eq!((check.max_ulp, check.worst, check.nmse), (u64::MAX, f64::INFINITY, f64::INFINITY));
        }
        assert_eq!(checked(&[f32::NAN, f32::INFINITY], &[f32::NAN, f32::INFINITY], 0..0).worst, 0.0);
        assert_eq!(checked(&[0.0], &[1e-9], 0..0).worst, f64::INFINITY);
    }

    #[test]
    fn integers_must_agree_exactly() {
        let (seven, eight) = (f32::from_bits(7), f32::from_bits(8));
        assert_eq!(checked(&[1.0, seven], &[1.0, seven], 1..2).max_ulp, 0);
        assert_eq!(checked(&[1.0, seven], &[1.0, eight], 1..2).worst, f64::INFINITY);
    }

    #[test]
    fn every_kernel_has_a_case_and_every_case_fits_its_kernel() {
        let all = cases();
        for kernel in KERNELS {
            assert!(all.iter().any(|case| std::ptr::eq(case.kernel, *kernel)), "{} has no case", kernel.name);
        }
        for case in &all {
            let count = |access| case.kernel.bindings.iter().filter(|b| b.access == access).count();
            let what = format!("{}, {}", case.kernel.name, case.name);
            assert!(KERNELS.iter().any(|kernel| std::ptr::eq(case.kernel, *kernel)), "{what}: not listed");
            assert_eq!(case.params.len(), case.kernel.params.len() * 4, "{what}");
            assert_eq!(case.inputs.len(), count(Access::Read), "{what}");
            assert_eq!(case.outputs.len(), count(Access::Write), "{what}");
        }
    }

    #[test]
    fn the_twins_write_all_of_every_output() {
        for case in cases() {
            for (output, words) in case.outputs.iter().zip(case.expected()) {
                let floats = words.iter().enumerate().filter(|(i, _)| !output.integers.contains(i));
                let nan = floats.clone().find(|(_, x)| x.is_nan());
                assert_eq!(nan, None, "{}, {}", case.kernel.name, case.name);
            }
        }
    }
}
