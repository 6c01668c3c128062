//! Norms of gradient, parameters and momentum: how a run is told to be sound or about to diverge. They are measured when
//! the host looks, never inside a step.

use crate::device::{
    Args, Buffer, CommandList, Device, Dispatch, Kernel, Params, Shader, params_of, read, wgsl, write,
};
use crate::error::Result;
use crate::ops::workgroups_of_64;
use crate::params;
use crate::plan::Arenas;

/// Partial sums that a norm is read back as.
const PARTS: usize = 1024;

params! {
    /// Uniform of `sum_of_squares`.
    pub struct SumOfSquaresParams {
        /// Numbers.
        len: u32,
        /// Partial sums.
        parts: u32,
    }
}

/// Squared norm of a vector, in parts.
pub static SUM_OF_SQUARES: Kernel = Kernel {
    name: "sum_of_squares",
    params: SumOfSquaresParams::FIELDS,
    bindings: &[read("x"), write("partials")],
    shaders: &[Shader {
        name: "sum_of_squares",
        wgsl: wgsl!("sum_of_squares"),
        workgroups: |params| workgroups_of_64(params_of::<SumOfSquaresParams>(params).parts.into()),
    }],
    twin: sum_of_squares,
    fast: None,
};

fn sum_of_squares(args: Args<'_>) {
    let (p, [x], [partials]) = args.unpack::<SumOfSquaresParams, 1, 1>();
    let parts = p.parts as usize;
    for (part, sum) in partials[..parts].iter_mut().enumerate() {
        *sum = x[..p.len as usize].iter().skip(part).step_by(parts).map(|x| x * x).sum();
    }
}

/// Euclidean norms over all that is trained.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Norms {
    /// Of the last step's gradient of the loss, before weight decay and centripetal pull.
    pub gradient: f64,
    /// Of the parameters.
    pub parameters: f64,
    /// Of the momentum (the velocity `v`, as in PyTorch; the gradient itself without momentum).
    pub momentum: f64,
}

/// Measures [`Norms`].
#[derive(Debug)]
pub struct NormMeter {
    partials: [Buffer; 3],
    commands: CommandList,
}

impl NormMeter {
    /// A meter of `arenas`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when there is no room.
    pub fn new(device: &Device, arenas: &Arenas) -> Result<NormMeter> {
        let len = arenas.layout().trained_words();
        let parts = PARTS.min(len.max(1));
        let partial = || device.buffer("norms", parts);
        let partials = [partial()?, partial()?, partial()?];
        let vectors = [arenas.gradients(), arenas.parameters(), arenas.momentum()];
        let params = SumOfSquaresParams { len: len as u32, parts: parts as u32 };
        let dispatches = vectors.iter().zip(&partials).map(|(vector, partial)| Dispatch {
            kernel: &SUM_OF_SQUARES,
            params: bytemuck::bytes_of(&params).to_vec(),
            bindings: vec![vector.all(), partial.all()],
            label: "norms".into(),
            variant: 0,
        });
        let commands = device.record(dispatches.collect())?;
        Ok(NormMeter { partials, commands })
    }

    /// The norms as they are now.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Device`] when the device failed.
    pub async fn read(&self, device: &Device) -> Result<Norms> {
        device.run(&[&self.commands]);
        let mut norms = [0.0; 3];
        for (norm, partial) in norms.iter_mut().zip(&self.partials) {
            let parts = device.read(&partial.all()).await?;
            *norm = parts.iter().map(|&part| f64::from(part)).sum::<f64>().sqrt();
        }
        let [gradient, parameters, momentum] = norms;
        Ok(Norms { gradient, parameters, momentum })
    }
}
