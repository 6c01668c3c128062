//! SGD with momentum and Nesterov, as `torch.optim.SGD`: one dispatch over the whole arena.
//!
//! `g' = g + eta*w`, `v = mu*v + g'`, `w = w - lr*v` (Nesterov: `w = w - lr*(g' + mu*v)`).

use crate::device::simd;
use crate::device::{Args, Dispatch, Kernel, Params, Shader, params_of, read, wgsl, write};
use crate::from_json;
use crate::ops::workgroups_of_64;
use crate::params;
use crate::plan::Arenas;
use serde::Serialize;

/// Momentum as `torch.optim.SGD` has it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct SgdConfig {
    /// mu, 0 for none.
    pub momentum: f64,
    /// Which direction the step takes.
    pub direction: Direction,
    /// eta, on weights of convolutions and linear layers alone, or on everything trained.
    pub weight_decay: f64,
    /// Which tensors weight decay is applied to.
    pub decay: Decayed,
}

from_json!(SgdConfig { momentum, direction, weight_decay, decay });

/// The direction of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// The momentum itself.
    HeavyBall,
    /// Nesterov's: the gradient plus the momentum looked ahead.
    Nesterov,
}

from_json!(enum Direction { HeavyBall: "HeavyBall", Nesterov: "Nesterov" });

/// The tensors that weight decay is applied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Decayed {
    /// Filters and linear weights; not bias, gamma and beta.
    Weights,
    /// Everything trained.
    All,
}

from_json!(enum Decayed { Weights: "Weights", All: "All" });

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig {
            momentum: 0.9,
            direction: Direction::HeavyBall,
            weight_decay: 1e-4,
            decay: Decayed::Weights,
        }
    }
}

params! {
    /// Uniform of `sgd_step`.
    pub struct SgdParams {
        /// Words of the arena.
        len: u32,
        /// Words at the arena's start that weight decay applies to.
        decayed: u32,
        /// 1 for Nesterov's direction.
        nesterov: u32,
        /// Learning rate.
        lr: f32,
        /// mu.
        momentum: f32,
        /// eta.
        weight_decay: f32,
    }
}

/// One step of SGD; does nothing once a step's loss was not finite.
pub static SGD_STEP: Kernel = Kernel {
    name: "sgd_step",
    params: SgdParams::FIELDS,
    bindings: &[read("gradients"), read("metrics"), write("parameters"), write("momentum")],
    shaders: &[Shader {
        name: "sgd_step",
        wgsl: wgsl!("sgd_step"),
        workgroups: |params| workgroups_of_64(params_of::<SgdParams>(params).len.into()),
    }],
    twin: sgd_step,
    fast: Some(sgd_step_fast),
};

/// Whether the metrics say that training must not go on.
pub(super) fn is_poisoned(metrics: &[f32]) -> bool {
    metrics[3].to_bits() != 0
}

fn sgd_step(args: Args<'_>) {
    let (p, [gradients, metrics], [parameters, momentum]) = args.unpack::<SgdParams, 2, 2>();
    if is_poisoned(metrics) {
        return;
    }
    for i in 0..p.len as usize {
        let mut g = gradients[i];
        if i < p.decayed as usize {
            g += p.weight_decay * parameters[i];
        }
        let v = p.momentum * momentum[i] + g;
        momentum[i] = v;
        let step = if p.nesterov == 1 { g + p.momentum * v } else { v };
        parameters[i] -= p.lr * step;
    }
}

/// The twin on parts of the arena, spread over the threads.
fn sgd_step_fast(args: Args<'_>) {
    let (p, [gradients, metrics], [parameters, momentum]) = args.unpack::<SgdParams, 2, 2>();
    let len = p.len as usize;
    simd::for_each_part_of_two(&mut parameters[..len], &mut momentum[..len], simd::PART, |part, w, v| {
        let first = part * simd::PART;
        let decayed = p.decayed.saturating_sub(first as u32);
        let params = SgdParams { len: w.len() as u32, decayed, ..p };
        sgd_step(Args::of(&params, &[&gradients[first..], metrics], [w, v]));
    });
}

/// The uniform of a step at learning rate `lr`.
pub fn params(config: &SgdConfig, arenas: &Arenas, lr: f64) -> SgdParams {
    let layout = arenas.layout();
    SgdParams {
        len: layout.trained_words() as u32,
        decayed: decayed_words(config, arenas),
        nesterov: u32::from(config.direction == Direction::Nesterov),
        lr: lr as f32,
        momentum: config.momentum as f32,
        weight_decay: config.weight_decay as f32,
    }
}

pub(super) fn decayed_words(config: &SgdConfig, arenas: &Arenas) -> u32 {
    match config.decay {
        Decayed::Weights => arenas.layout().decayed_words() as u32,
        Decayed::All => arenas.layout().trained_words() as u32,
    }
}

/// The dispatch of a step.
pub fn dispatch(config: &SgdConfig, arenas: &Arenas) -> Dispatch {
    Dispatch {
        kernel: &SGD_STEP,
        params: bytemuck::bytes_of(&params(config, arenas, 0.0)).to_vec(),
        bindings: vec![
            arenas.gradients().all(),
            arenas.metrics().all(),
            arenas.parameters().all(),
            arenas.momentum().all(),
        ],
        label: "update".into(),
        variant: 0,
    }
}
