//! Which WGSL variant runs, chosen by measurement: once an adapter, kernel and shape class.
//!
//! The table is plain data. The caller keeps it: a file of the command, the browser's storage. Variants add in different
//! orders, so the same table gives the same bits and another table may give others.

use super::{Device, DeviceInfo, Dispatch, Executor, Kernel};
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use serde::Serialize;
use std::collections::BTreeMap;

/// Fields of a uniform that do not belong to the shape class: the batch and how a sum is cut scale the work, flags
/// change little. So one measurement serves training and evaluation with batches of any size.
const NOT_SHAPE: [&str; 9] =
    ["n", "splits", "accumulate", "has_bias", "add_residual", "relu", "eps", "momentum", "first"];

/// Seconds after which no further class is measured in one call; the rest take their default.
const MOST_SECONDS: f64 = 20.0;

/// Seconds of work that one timing aims at: far above the clock's step, far below what a watchdog minds.
const ONE_TIMING: f64 = 0.003;

/// Timings of each variant; the least counts.
const TIMINGS: usize = 3;

/// A variant that takes so many times the best so far is not timed again.
const HOPELESS: f64 = 2.0;

/// The default is given up only for a variant that takes at most this part of its time.
const CLEARLY: f64 = 0.93;

/// What was measured on one adapter by one version of Centripetal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tuning {
    /// The adapter's name.
    pub adapter: String,
    /// Backend, driver name and driver version.
    pub driver: String,
    /// Version of Centripetal: its shaders change.
    pub version: String,
    /// Name of the shader that runs, by kernel and shape class.
    pub choices: BTreeMap<String, String>,
}

crate::from_json!(Tuning { adapter, driver, version, choices });

impl Tuning {
    /// An empty table for the adapter described.
    pub fn new(info: &DeviceInfo) -> Tuning {
        Tuning {
            adapter: info.name.clone(),
            driver: format!("{} {}", info.backend, info.driver),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            choices: BTreeMap::new(),
        }
    }

    /// The table as text.
    pub fn to_json(&self) -> String {
        // A map of strings always serialises.
        json::text(&serde_json::to_value(self).unwrap_or_default())
    }

    /// The table from text that [`Tuning::to_json`] wrote.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] when it is something else. It is safe to go on without.
    pub fn from_json(text: &str) -> Result<Tuning> {
        serde_json::from_str(text).map_err(|error| {
            Error::new(ErrorKind::Format, "reading the table of measured kernel variants")
                .expected("what Centripetal wrote")
                .found(error)
                .next("It may be deleted: the variants are measured again")
        })
    }

    /// Whether it was measured on this adapter, with this driver, by this version.
    pub fn is_for(&self, info: &DeviceInfo) -> bool {
        let Tuning { adapter, driver, version, .. } = Tuning::new(info);
        (&self.adapter, &self.driver, &self.version) == (&adapter, &driver, &version)
    }

    /// The variant noted for these sizes, if it exists and fits them.
    fn variant(&self, kernel: &Kernel, params: &[u8]) -> Option<usize> {
        let name = self.choices.get(&class(kernel, params))?;
        kernel.variants(params).find(|&variant| kernel.shaders[variant].name == name)
    }
}

/// Kernel and shape class: `conv2d_forward c=16 h=32 ...`.
fn class(kernel: &Kernel, params: &[u8]) -> String {
    let mut class = kernel.name.to_owned();
    for (field, word) in kernel.params.iter().zip(params.chunks_exact(4)) {
        if !NOT_SHAPE.contains(&field.name) {
            class += &format!(" {}={}", field.name, u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    class
}

impl Device {
    /// The variants measured or set so far.
    pub fn tuning(&self) -> Tuning {
        self.lock_tuning().clone()
    }

    /// Takes a table measured before; what is recorded from now on follows it.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when it was measured elsewhere, with another driver or by another version.
    pub fn set_tuning(&self, tuning: Tuning) -> Result<()> {
        if !tuning.is_for(&self.info) {
            let own = Tuning::new(&self.info);
            return Err(Error::new(ErrorKind::Device, "taking over measured kernel variants")
                .expected(format!("those of {}, {}, version {}", own.adapter, own.driver, own.version))
                .found(format!("{}, {}, version {}", tuning.adapter, tuning.driver, tuning.version))
                .next("Measure again"));
        }
        *self.lock_tuning() = tuning;
        Ok(())
    }

    /// The variant of `kernel` to run for the uniform `params`: as measured, else the adapter's default.
    pub fn variant(&self, kernel: &Kernel, params: &[u8]) -> usize {
        let measured = self.lock_tuning().variant(kernel, params);
        let measured = measured.filter(|&variant| self.can_run(&kernel.shaders[variant]));
        measured.unwrap_or_else(|| kernel.default_variant(self.info.kind, params))
    }

    /// Measures the variants of those kernels among `dispatches` whose shape class has none noted yet, and notes the
    /// fastest. Runs the dispatches: what they write is overwritten. `clock` gives seconds. Returns how many classes were
    /// measured; the CPU has no variants.
    ///
    /// A variant that fails is passed over. After some seconds the classes left over get their default, which is noted
    /// as well: a run that is resumed then finds what it began with.
    ///
    /// # Errors
    /// [`ErrorKind::Device`] when the device was lost.
    pub async fn tune(&self, dispatches: &[Dispatch], clock: &dyn Fn() -> f64) -> Result<usize> {
        if matches!(self.executor, Executor::Cpu(_)) {
            return Ok(0);
        }
        let start = clock();
        let mut measured = 0;
        for dispatch in dispatches {
            let Dispatch { kernel, params, .. } = dispatch;
            let class = class(kernel, params);
            let can_run = |&variant: &usize| self.can_run(&kernel.shaders[variant]);
            let candidates: Vec<usize> = kernel.variants(params).filter(can_run).collect();
            if candidates.len() < 2 || self.lock_tuning().choices.contains_key(&class) {
                continue;
            }
            let mut best = kernel.default_variant(self.info.kind, params);
            if clock() - start < MOST_SECONDS {
                best = self.fastest(dispatch, best, &candidates, clock).await?;
                measured += 1;
            }
            self.lock_tuning().choices.insert(class, kernel.shaders[best].name.to_owned());
        }
        Ok(measured)
    }

    async fn fastest(
        &self,
        dispatch: &Dispatch,
        default: usize,
        candidates: &[usize],
        clock: &dyn Fn() -> f64,
    ) -> Result<usize> {
        let mut best = (default, f64::INFINITY);
        // The default first: what is much slower is then dropped after one timing.
        let others = candidates.iter().copied().filter(|&variant| variant != default);
        for variant in std::iter::once(default).chain(others) {
            // What is hardly faster may be so by chance.
            let threshold = if best.0 == default { CLEARLY } else { 1.0 };
            match self.time(&Dispatch { variant, ..dispatch.clone() }, best.1, clock).await {
                Ok(seconds) if seconds < best.1 * threshold => best = (variant, seconds),
                Ok(_) => {}
                Err(error) => self.forgive(error)?,
            }
        }
        Ok(best.0)
    }

    /// Seconds of one run of `dispatch`; only roughly when it is far above `best`.
    async fn time(&self, dispatch: &Dispatch, best: f64, clock: &dyn Fn() -> f64) -> Result<f64> {
        let once = self.record(vec![dispatch.clone()])?;
        self.run(&[&once]);
        self.finish().await?;
        let start = clock();
        self.run(&[&once]);
        self.finish().await?;
        let mut least = clock() - start;
        let runs = (ONE_TIMING / least.max(1e-6)).ceil().min(64.0) as usize;
        let list = self.record(vec![dispatch.clone(); runs])?;
        for _ in 0..TIMINGS {
            // A single run has its submission counted with it, so a small one is given the benefit of the doubt.
            if least > best * HOPELESS && least > ONE_TIMING {
                break;
            }
            let start = clock();
            self.run(&[&list]);
            self.finish().await?;
            least = least.min((clock() - start) / runs as f64);
        }
        Ok(least)
    }

    /// Forgets the error of a variant that failed, unless the device is lost.
    fn forgive(&self, error: Error) -> Result<()> {
        match &self.executor {
            Executor::Gpu(gpu) if gpu.forgive() => Ok(()),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceKind;
    use crate::ops::conv2d::{CONV2D_FORWARD, Conv2dParams};

    const LAYER: Conv2dParams = Conv2dParams {
        n: 8,
        c: 16,
        h: 32,
        w: 32,
        k: 16,
        r: 3,
        s: 3,
        p: 32,
        q: 32,
        stride_h: 1,
        stride_w: 1,
        pad_top: 1,
        pad_left: 1,
        dilation_h: 1,
        dilation_w: 1,
        groups: 1,
        has_bias: 0,
        accumulate: 0,
        splits: 1,
        first: 0,
    };

    fn bytes(params: &Conv2dParams) -> &[u8] {
        bytemuck::bytes_of(params)
    }

    #[test]
    fn a_class_is_the_shape_without_the_batch() {
        let of = |params: &Conv2dParams| class(&CONV2D_FORWARD, bytes(params));
        assert!(of(&LAYER).starts_with("conv2d_forward c=16 h=32"), "{}", of(&LAYER));
        assert_eq!(of(&LAYER), of(&Conv2dParams { n: 1, splits: 7, accumulate: 1, has_bias: 1, ..LAYER }));
        assert_ne!(of(&LAYER), of(&Conv2dParams { c: 10, ..LAYER }));
    }

    #[test]
    fn defaults_follow_the_adapter_and_the_shape() {
        let name = |kind, params: &Conv2dParams| {
            CONV2D_FORWARD.shaders[CONV2D_FORWARD.default_variant(kind, bytes(params))].name
        };
        assert_eq!(name(DeviceKind::SoftwareGpu, &LAYER), "conv2d_forward_3x3");
        assert_eq!(name(DeviceKind::Gpu, &LAYER), "conv2d_forward_tiled");
        let strided = Conv2dParams { stride_w: 2, ..LAYER };
        assert_eq!(name(DeviceKind::SoftwareGpu, &strided), "conv2d_forward");
        let depthwise = Conv2dParams { groups: 16, stride_w: 2, ..LAYER };
        assert_eq!(name(DeviceKind::Gpu, &depthwise), "conv2d_forward");
    }

    #[test]
    fn a_table_is_kept_as_text_and_only_used_where_it_was_measured() {
        let device = Device::cpu("test");
        let mut tuning = Tuning::new(device.info());
        tuning.choices.insert(class(&CONV2D_FORWARD, bytes(&LAYER)), "conv2d_forward_direct".to_owned());
        assert_eq!(Tuning::from_json(&tuning.to_json()).ok(), Some(tuning.clone()));
        for text in ["", "{}", "[1]", "{\"adapter\": 3}"] {
            assert!(Tuning::from_json(text).is_err(), "{text}");
        }
        assert_eq!(device.variant(&CONV2D_FORWARD, bytes(&LAYER)), 0);
        assert!(device.set_tuning(tuning.clone()).is_ok());
        assert_eq!(device.tuning(), tuning);
        assert_eq!(device.variant(&CONV2D_FORWARD, bytes(&LAYER)), 4);
        let elsewhere = Tuning { driver: "another".into(), ..tuning.clone() };
        assert!(device.set_tuning(elsewhere).is_err());
        // A shader that is not there, or does not fit, is as good as none.
        for wrong in ["conv2d_forward_gone", "conv2d_forward_rows"] {
            let strided = Conv2dParams { stride_w: 2, ..LAYER };
            let mut tuning = tuning.clone();
            tuning.choices.insert(class(&CONV2D_FORWARD, bytes(&strided)), wrong.to_owned());
            assert!(device.set_tuning(tuning).is_ok());
            assert_eq!(device.variant(&CONV2D_FORWARD, bytes(&strided)), 2, "{wrong}");
        }
    }
}
