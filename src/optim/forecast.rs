//! Will a schedule make a cut lossless? The contraction of C-SGD, computed before training.
//!
//! Two members of a cluster get the same averaged gradient, so it cancels in their difference d, whatever the
//! data. With `s = eps + eta` (strength and weight decay), momentum mu and learning rate lr(t), as
//! `torch.optim.SGD` orders it:
//!
//! ```text
//! v' = mu v + s d
//! d' = d - lr(t) v'                  classic
//! d' = d - lr(t) (s d + mu v')       Nesterov
//! ```
//!
//! This is linear, so it is simulated in f64 from `d = 1, v = 0`. For a small lr·s it shrinks by about
//! `sum lr(t) · s / (1 - mu)` nats. More strength is not always more contraction: once lr·s passes
//! `(1 - sqrt(mu))^2` a classic difference oscillates and loses no more than `ln(mu) / 2` a step.
//!
//! Every tensor that the cut needs equal is counted, at its own rate ([`Differences`]): filters have eta; bias, gamma and
//! beta have none; the running statistics of batch norm are not trained but remember. With batch norm's momentum a, the
//! difference S of two running statistics follows the maps of the steps so far, which differ as d does:
//!
//! ```text
//! S' = (1 - a) S + a |d|
//! ```
//!
//! So however fast filters become equal, S shrinks by no more than `-ln(1 - a)` nats a step: 0.105 for the usual 0.1.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::graph::Graph;
use crate::ops::Op;
use crate::optim::schedule::Schedule;
use crate::optim::sgd::{Decayed, Direction, SgdConfig};
use crate::prune::Clusters;

/// Nats of contraction that make float32 filters equal: `e^-16 = 1.1e-7` is one unit in the last place.
pub const LOSSLESS: f64 = 16.0;

/// Nats that `auto` aims for: [`LOSSLESS`] and a factor of 7, because filters start up to a few times their own
/// size apart. More gains little: f32 rounding of the updates holds differences at about `1e-7` of a layer's
/// largest weight.
pub const AUTO_TARGET: f64 = 18.0;

/// Steps for each merged layer from which a run is gentle ([`gentle_steps`]): about the pace of the official settings, in which
/// the 57 convolutions of a ResNet-56 are merged after 20 epochs of 781 steps.
const GENTLE_STEPS_A_LAYER: u64 = 250;

/// Bound of every logarithm reported, so that exact zeros and overflows stay finite numbers in a report.
const LOG_LIMIT: f64 = 1e6;
/// Intervals of a forecast's curve.
const CURVE_POINTS: u64 = 200;
/// Ratio of neighbouring strengths tried while no difference oscillates: more strength is then more contraction.
const SMOOTH_RATIO: f64 = 1.1;
/// Ratio where differences oscillate and the contraction ripples over the strength.
const RIPPLE_RATIO: f64 = 1.01;
/// Neighbouring strengths that must all do where there are ripples, from one that is chosen to 4 % more: a lucky
/// cancellation at one strength would not hold for parameters whose weight decay is another.
const SUSTAINED: usize = 5;
/// Steps beyond which the length that would suffice is estimated and not simulated.
const LONGEST_SEARCH: u64 = 50_000;
/// Relative precision of a strength found.
const PRECISION: f64 = 1e-4;

impl Direction {
    /// The lr·s from which a difference no longer shrinks: where an eigenvalue of the recurrence reaches -1.
    fn stability_limit(self, momentum: f64) -> f64 {
        match self {
            Direction::HeavyBall => 2.0 * (1.0 + momentum),
            Direction::Nesterov => 2.0 * (1.0 + momentum) / (1.0 + 2.0 * momentum),
        }
    }

    /// The lr·s of critical damping: where the eigenvalues of the recurrence meet and become complex.
    fn ripple_limit(self, momentum: f64) -> f64 {
        match self {
            Direction::HeavyBall => (1.0 - momentum.sqrt()).powi(2),
            Direction::Nesterov => ((1.0 - momentum) / (1.0 + momentum)).powi(2),
        }
    }
}

/// Whether differences shrink at every learning rate of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stability {
    /// They do.
    Stable,
    /// At the highest learning rates they grow: the strength is too large.
    Unstable,
}

/// The kinds of difference inside clusters that have to vanish, by what decides their rates.
#[derive(Debug, Clone, PartialEq)]
pub struct Differences {
    /// eta of each kind of trained tensor: the weight decay of filters, 0 of bias, gamma and beta. Not empty.
    pub decays: Vec<f64>,
    /// The smallest momentum of a batch norm whose channels are clustered, from over 0 to 1; `None` where there is none.
    pub statistics: Option<f64>,
}

impl Differences {
    /// Those of weights that the weight decay `eta` pulls on, and of nothing else.
    pub fn of_weights(eta: f64) -> Self {
        Differences { decays: vec![eta], statistics: None }
    }

    /// Those of every tensor of `graph` that `clusters` need equal, in training by `sgd`; without `clusters`, of every layer.
    pub fn of_network(graph: &Graph, clusters: Option<&Clusters>, sgd: &SgdConfig) -> Self {
        let is_clustered = |id| clusters.is_none_or(|clusters| clusters.of_node(id).is_some());
        let momentum = |(id, node): (usize, &crate::graph::Node)| match &node.op {
            Op::BatchNorm2d(norm) if is_clustered(id) => Some(f64::from(norm.momentum)),
            _ => None,
        };
        let momenta = graph.nodes.iter().enumerate().filter_map(momentum);
        let decays = match sgd.decay {
            Decayed::Weights if sgd.weight_decay > 0.0 => vec![0.0, sgd.weight_decay],
            _ => vec![sgd.weight_decay],
        };
        Differences { decays, statistics: momenta.reduce(f64::min) }
    }

    fn slowest_decay(&self) -> f64 {
        self.decays.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Between the least and the largest of `decays`.
    fn spread(&self) -> f64 {
        self.decays.iter().copied().fold(0.0, f64::max) - self.slowest_decay()
    }
}

/// What a schedule does to the differences inside clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Natural logarithm of `max(|d|, lr·mu·|v|)` after the run, from 0 before it; negative is shrunk. The
    /// velocity's part keeps a zero crossing of an oscillating d from passing for contraction. Of several kinds of trained
    /// tensors, that of the one that is furthest apart.
    pub log_shrink: f64,
    /// The same for the running statistics of batch norm; `None` where no batch norm is clustered.
    pub statistics_log_shrink: Option<f64>,
    /// `(steps done, logarithm)` of trained tensors at about 200 places, both ends included.
    pub curve: Vec<(u64, f64)>,
    /// Steps after which trained tensors are, and stay, [`LOSSLESS`] nats smaller; the steps after it can recover accuracy.
    pub merged_at: Option<u64>,
    /// Whether the strength is small enough for the highest learning rate.
    pub stability: Stability,
}

impl Forecast {
    /// Whether differences of trained tensors end at least `target` nats smaller, and those of statistics as much or
    /// [`LOSSLESS`], without ever growing.
    pub fn reaches(&self, target: f64) -> bool {
        self.stability == Stability::Stable
            && self.log_shrink <= -target
            && self.statistics_log_shrink.is_none_or(|log| log <= -target.min(LOSSLESS))
    }
}

/// Judgement of a strength chosen by hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The target is reached.
    Enough,
    /// The target is not reached; `needed` is the smallest strength that does.
    Insufficient {
        /// Strength to use instead.
        needed: f64,
    },
    /// No strength reaches the target in this schedule.
    TooShort(TooShort),
    /// Differences grow at the highest learning rate.
    Unstable {
        /// Strengths must stay below this.
        limit: f64,
    },
}

/// Why no strength reaches the target in a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TooShort {
    /// About how many steps would do, at the best strength and with the schedule stretched.
    pub steps: u64,
    /// What takes longest.
    pub slowest: Slowest,
    /// Nats by which its differences shrink at the best strength.
    pub reached: f64,
    /// Nats by which they would have to.
    pub needed: f64,
    /// The best strength: that which comes nearest.
    pub strength: f64,
}

/// Which differences take longest to vanish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slowest {
    /// Those of filters, bias, gamma and beta.
    Filters,
    /// Those of running statistics, which forget no faster than batch norm's momentum lets them.
    Statistics,
}

/// Forecasts what `schedule` does with the strength `eps` to the differences of `begin`, in one pass over the steps. The
/// arguments are taken as [`assess`] would accept them.
pub fn log_contraction(begin: &Contraction, schedule: &Schedule, eps: f64) -> Forecast {
    let stride = schedule.total_steps.div_ceil(CURVE_POINTS).max(1);
    let mut run = begin.clone();
    let mut curve = vec![(0, run.log_shrink())];
    let mut highest: f64 = 0.0;
    let mut merged_at = None;
    for step in 0..schedule.total_steps {
        let lr = schedule.lr(step);
        highest = highest.max(lr);
        run.step(lr, eps);
        let (done, log) = (step + 1, run.log_shrink());
        merged_at = if log <= -LOSSLESS { merged_at.or(Some(done)) } else { None };
        if done.is_multiple_of(stride) || done == schedule.total_steps {
            curve.push((done, log));
        }
    }
    let stable = highest * (eps + begin.slowest_decay + begin.spread)
        < begin.direction.stability_limit(begin.momentum);
    Forecast {
        log_shrink: run.log_shrink(),
        statistics_log_shrink: run.statistics_log_shrink(),
        curve,
        merged_at,
        stability: if stable { Stability::Stable } else { Stability::Unstable },
    }
}

/// The smallest strength by which the differences of `begin` reach `target` nats ([`AUTO_TARGET`]) in `schedule`, and
/// statistics as many or [`LOSSLESS`]; 0 if weight decay alone does.
///
/// Strengths are tried upwards and the first success is refined, because contraction is not monotone in the
/// strength. Where it ripples, a strength counts only if those up to 4 % above it reach the target too. Only the product
/// lr·(eps + eta) matters, so a schedule that fails here fails at any learning rate: it needs more steps, or less decay.
///
/// # Errors
/// [`ErrorKind::Argument`] if an argument is out of range, or if no strength reaches the target; the message then
/// says how many steps would.
pub fn auto_strength(begin: &Contraction, schedule: &Schedule, target: f64) -> Result<f64> {
    find_strength(begin, schedule, target)?.map_err(|short| {
        let what = match short.slowest {
            Slowest::Filters => "",
            Slowest::Statistics => " for the running statistics of batch norm",
        };
        Error::new(ErrorKind::Argument, "choosing the centripetal strength")
            .expected(format!(
                "a schedule in which differences inside clusters can shrink by e^{}",
                short.needed
            ))
            .found(format!(
                "{} steps, in which the best strength reaches e^{:.1}{what}",
                schedule.total_steps, short.reached
            ))
            .next(format!("Train for about {} steps (more epochs or a smaller batch)", short.steps))
    })
}

/// As [`auto_strength`], with the reason where no strength reaches the target.
///
/// # Errors
/// [`ErrorKind::Argument`] if an argument is out of range.
pub fn find_strength(
    begin: &Contraction,
    schedule: &Schedule,
    target: f64,
) -> Result<std::result::Result<f64, TooShort>> {
    check(begin, schedule, target)?;
    Ok(search(begin, schedule, target).map_err(|best| steps_needed(begin, schedule, target, best)))
}

/// Judges a strength chosen by hand before training with it, with the number that would do.
///
/// # Errors
/// [`ErrorKind::Argument`] if an argument is out of range.
pub fn assess(
    begin: &Contraction,
    schedule: &Schedule,
    eps: f64,
    target: f64,
) -> Result<(Forecast, Verdict)> {
    check(begin, schedule, target)?;
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(out_of_range("centripetal strength", "a number of at least 0", eps));
    }
    let forecast = log_contraction(begin, schedule, eps);
    let verdict = if forecast.stability == Stability::Unstable {
        let limit = begin.direction.stability_limit(begin.momentum) / highest_lr(schedule);
        Verdict::Unstable { limit: limit - begin.slowest_decay - begin.spread }
    } else if forecast.reaches(target) {
        Verdict::Enough
    } else {
        match search(begin, schedule, target) {
            Ok(needed) => Verdict::Insufficient { needed },
            Err(best) => Verdict::TooShort(steps_needed(begin, schedule, target, best)),
        }
    };
    Ok((forecast, verdict))
}

/// Steps that a run should have so that accuracy falls little on the way: 250 for each convolution and linear layer that is
/// merged. In shorter runs filters merge faster than the layers behind them can follow; the deeper the network, the longer these
/// need. A rule of thumb, not a law: the forecast of the contraction does not depend on it.
/// The public ResNet-20 on 4,000 of its own CIFAR-10 images, cut to 5/8: with 496 steps (24 a layer) test accuracy fell from
/// 99.9 to 45.6 % on the way and ended at 85.8 %; with 1,984 (94 a layer) it fell to 59.7 and ended at 98.3 %.
pub fn gentle_steps(graph: &Graph, clusters: &Clusters) -> u64 {
    let is_merged = |id: &usize| {
        matches!(graph.nodes[*id].op, Op::Conv2d(_) | Op::Linear(_)) && clusters.of_node(*id).is_some()
    };
    GENTLE_STEPS_A_LAYER * (0..graph.nodes.len()).filter(is_merged).count() as u64
}

/// How far the differences of a run are from a target.
#[derive(Debug, Clone, Copy)]
struct Reached {
    /// Nats reached by the target's, of trained tensors; 1 is enough.
    filters: f64,
    /// The same of statistics.
    statistics: f64,
}

impl Reached {
    const NOTHING: Reached = Reached { filters: f64::NEG_INFINITY, statistics: f64::NEG_INFINITY };
    const ALL: Reached = Reached { filters: f64::INFINITY, statistics: f64::INFINITY };

    fn part(self) -> f64 {
        self.filters.min(self.statistics)
    }

    fn worse(self, other: Reached) -> Reached {
        Reached {
            filters: self.filters.min(other.filters),
            statistics: self.statistics.min(other.statistics),
        }
    }
}

/// The smallest sufficient eps, or the most that any eps reaches, and that eps.
fn search(begin: &Contraction, schedule: &Schedule, target: f64) -> std::result::Result<f64, (Reached, f64)> {
    // Pulls are eps and the least decay: that of the tensors that are pulled least.
    let eta = begin.slowest_decay;
    let reached = |pull: f64| {
        let mut run = begin.clone();
        (0..schedule.total_steps).for_each(|step| run.step(schedule.lr(step), pull - eta));
        run.reached(target)
    };
    let mut best = (reached(eta), 0.0);
    if best.0.part() >= 1.0 {
        return Ok(0.0);
    }
    let highest = highest_lr(schedule);
    let limit = begin.direction.stability_limit(begin.momentum) / highest - begin.spread;
    let smooth = begin.direction.ripple_limit(begin.momentum) / highest - begin.spread;
    let sum: f64 = (0..schedule.total_steps).map(|step| schedule.lr(step)).sum();
    // An eighth of the estimate for weak pulls is too little, unless so few steps are left that it is no
    // estimate any more.
    let missing = (target + begin.log_shrink()).max(1.0);
    let mut too_weak = (missing * (1.0 - begin.momentum) / sum / 8.0).min(limit / 1000.0).max(eta);
    while too_weak > eta && reached(too_weak).part() >= 1.0 {
        too_weak = (too_weak / 8.0).max(eta);
    }
    let mut window = [Reached::NOTHING; SUSTAINED];
    let mut enough = loop {
        let rippling = too_weak * SMOOTH_RATIO >= smooth;
        let pull = too_weak * if rippling { RIPPLE_RATIO } else { SMOOTH_RATIO };
        if pull >= limit || limit.is_nan() {
            return Err(best);
        }
        if rippling {
            window.rotate_left(1);
            window[SUSTAINED - 1] = reached(pull);
        } else {
            window.fill(reached(pull));
        }
        let sustained = window.iter().copied().fold(Reached::ALL, Reached::worse);
        if sustained.part() > best.0.part() {
            best = (sustained, pull - eta);
        }
        if sustained.part() >= 1.0 {
            let first = if rippling { pull / RIPPLE_RATIO.powi(SUSTAINED as i32 - 1) } else { pull };
            too_weak = if rippling { first / RIPPLE_RATIO } else { too_weak };
            break first;
        }
        too_weak = pull;
    };
    while enough > too_weak * (1.0 + PRECISION) {
        let middle = (too_weak * enough).sqrt();
        if reached(middle).part() >= 1.0 { enough = middle } else { too_weak = middle }
    }
    Ok(enough - eta)
}

fn highest_lr(schedule: &Schedule) -> f64 {
    (0..schedule.total_steps).map(|step| schedule.lr(step)).fold(0.0, f64::max)
}

/// The length at which a stretched `schedule` reaches `target`, if its best strength reaches `best` now.
///
/// Contraction grows with the length, less what gathering momentum costs, so proportion alone falls short.
fn steps_needed(
    begin: &Contraction,
    schedule: &Schedule,
    target: f64,
    (best, strength): (Reached, f64),
) -> TooShort {
    // Statistics follow filters, and are to blame only where these are close enough.
    let (slowest, part, needed) = if best.filters < 1.0 {
        (Slowest::Filters, best.filters, target)
    } else {
        (Slowest::Statistics, best.statistics, target.min(LOSSLESS))
    };
    let enough = |steps| TooShort { steps, slowest, reached: part * needed, needed, strength };
    let mut steps = schedule.total_steps;
    let mut part = best.part();
    loop {
        let growth = if part > 0.0 { (1.0 / part).clamp(1.02, 8.0) } else { 8.0 };
        steps = (steps as f64 * growth).ceil() as u64;
        if steps > LONGEST_SEARCH {
            return enough(steps);
        }
        match search(begin, &schedule.stretched(steps), target) {
            Ok(_) => return enough(steps),
            Err((best, _)) => part = best.part(),
        }
    }
}

fn check(begin: &Contraction, schedule: &Schedule, target: f64) -> Result<()> {
    schedule.validate()?;
    if !(0.0..1.0).contains(&begin.momentum) {
        return Err(out_of_range("momentum", "a number from 0 to below 1", begin.momentum));
    }
    for eta in [begin.slowest_decay, begin.spread] {
        if !(eta.is_finite() && eta >= 0.0) {
            return Err(out_of_range("weight decay", "a number of at least 0", eta));
        }
    }
    if let Some(statistics) = begin.statistics
        && !(statistics.momentum > 0.0 && statistics.momentum <= 1.0)
    {
        return Err(out_of_range(
            "momentum of batch norm",
            "a number over 0, by which running statistics follow the data, and at most 1",
            statistics.momentum,
        ));
    }
    if !(target > 0.0 && target < LOG_LIMIT) {
        return Err(out_of_range("contraction in nats", "a number over 0, such as 18", target));
    }
    Ok(())
}

fn out_of_range(what: &str, expected: &str, found: f64) -> Error {
    Error::new(ErrorKind::Argument, format!("forecasting the contraction: {what}"))
        .expected(expected)
        .found(found)
}

/// The differences of a run, step by step: at the beginning, or on the way with a learning rate and a strength that change.
#[derive(Debug, Clone)]
pub struct Contraction {
    momentum: f64,
    direction: Direction,
    slowest_decay: f64,
    spread: f64,
    /// One for each kind of trained tensor, with its eta.
    runs: Vec<(f64, Recurrence)>,
    statistics: Option<Statistics>,
    lr: f64,
}

impl Contraction {
    /// Before the first step of a training with momentum coefficient `momentum`.
    pub fn new(momentum: f64, direction: Direction, differences: &Differences) -> Self {
        Contraction {
            momentum,
            direction,
            slowest_decay: differences.slowest_decay(),
            spread: differences.spread(),
            runs: differences.decays.iter().map(|&eta| (eta, Recurrence::new(momentum, direction))).collect(),
            statistics: differences.statistics.map(|momentum| Statistics { momentum, difference: 1.0 }),
            lr: 0.0,
        }
    }

    /// Before the first step of training `graph` by `sgd` with `clusters`, or with some in every layer.
    pub fn of_network(graph: &Graph, clusters: Option<&Clusters>, sgd: &SgdConfig) -> Self {
        Contraction::new(sgd.momentum, sgd.direction, &Differences::of_network(graph, clusters, sgd))
    }

    /// One step at learning rate `lr` and strength `eps`.
    pub fn step(&mut self, lr: f64, eps: f64) {
        if let Some(statistics) = &mut self.statistics {
            // The forward pass comes before the update.
            let apart = self.runs.iter().map(|(_, run)| run.difference(self.lr)).fold(0.0, f64::max);
            statistics.step(apart);
        }
        for (eta, run) in &mut self.runs {
            run.step(lr, eps + *eta);
        }
        self.lr = lr;
    }

    /// As [`Forecast::log_shrink`], so far.
    pub fn log_shrink(&self) -> f64 {
        self.runs.iter().map(|(_, run)| run.log(self.lr)).fold(-LOG_LIMIT, f64::max)
    }

    /// As [`Forecast::statistics_log_shrink`], so far.
    pub fn statistics_log_shrink(&self) -> Option<f64> {
        self.statistics.map(|statistics| statistics.difference.ln().clamp(-LOG_LIMIT, LOG_LIMIT))
    }

    /// Whether every difference is at least [`LOSSLESS`] nats smaller than at the beginning.
    pub fn is_lossless(&self) -> bool {
        self.reached(LOSSLESS).part() >= 1.0
    }

    fn reached(&self, target: f64) -> Reached {
        let statistics = self.statistics_log_shrink();
        Reached {
            filters: -self.log_shrink() / target,
            statistics: statistics.map_or(f64::INFINITY, |log| -log / target.min(LOSSLESS)),
        }
    }
}

/// The difference of two running statistics.
#[derive(Debug, Clone, Copy)]
struct Statistics {
    /// Of batch norm.
    momentum: f64,
    difference: f64,
}

impl Statistics {
    /// Numbers stay normal: those below are as slow as they are small.
    const LEAST: f64 = 1e-290;

    fn step(&mut self, apart: f64) {
        let remembered = (1.0 - self.momentum) * self.difference;
        self.difference = (remembered + self.momentum * apart).clamp(Self::LEAST, f64::MAX);
    }
}

/// The state of a difference, times `1 / scale` so that it neither underflows nor overflows.
#[derive(Debug, Clone)]
struct Recurrence {
    momentum: f64,
    nesterov: Direction,
    difference: f64,
    velocity: f64,
    log_scale: f64,
    scale: f64,
}

impl Recurrence {
    fn new(momentum: f64, nesterov: Direction) -> Self {
        Recurrence { momentum, nesterov, difference: 1.0, velocity: 0.0, log_scale: 0.0, scale: 1.0 }
    }

    fn step(&mut self, lr: f64, pull: f64) {
        let gradient = pull * self.difference;
        self.velocity = self.momentum * self.velocity + gradient;
        self.difference -= lr
            * match self.nesterov {
                Direction::HeavyBall => self.velocity,
                Direction::Nesterov => gradient + self.momentum * self.velocity,
            };
        let size = self.size(lr);
        if !(1e-100..1e100).contains(&size) && size > 0.0 && size.is_finite() {
            self.difference /= size;
            self.velocity /= size;
            self.log_scale += size.ln();
            self.scale = self.log_scale.exp();
        }
    }

    /// What is left now, and what the velocity will still add.
    fn size(&self, lr: f64) -> f64 {
        self.difference.abs().max((lr * self.momentum * self.velocity).abs())
    }

    /// The same, of a difference that began as 1.
    fn difference(&self, lr: f64) -> f64 {
        self.size(lr) * self.scale
    }

    fn log(&self, lr: f64) -> f64 {
        let log = self.size(lr).ln() + self.log_scale;
        if log.is_nan() { LOG_LIMIT } else { log.clamp(-LOG_LIMIT, LOG_LIMIT) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::schedule::Decay;
    use crate::rng::Rng;

    const BOTH: [Direction; 2] = [Direction::HeavyBall, Direction::Nesterov];

    fn begin(momentum: f64, direction: Direction, eta: f64) -> Contraction {
        Contraction::new(momentum, direction, &Differences::of_weights(eta))
    }

    /// With batch norm of momentum `a`.
    fn with_statistics(momentum: f64, direction: Direction, a: f64) -> Contraction {
        Contraction::new(momentum, direction, &Differences { decays: vec![0.0], statistics: Some(a) })
    }

    fn constant(lr: f64, steps: u64) -> Schedule {
        Schedule { base_lr: lr, total_steps: steps, warmup_steps: 0, decay: Decay::Constant }
    }

    fn cosine(lr: f64, steps: u64) -> Schedule {
        let decay = Decay::Cosine { final_lr: 0.0 };
        Schedule { base_lr: lr, total_steps: steps, warmup_steps: steps / 20, decay }
    }

    /// Trains a cluster of three filters by C-SGD on random gradients: log of the largest difference, end to start.
    fn train(schedule: &Schedule, momentum: f64, nesterov: Direction, eps: f64, eta: f64) -> f64 {
        const FILTERS: usize = 3;
        const WEIGHTS: usize = 5;
        let mut rng = Rng::new(11);
        let mut w: [[f64; WEIGHTS]; FILTERS] =
            std::array::from_fn(|_| std::array::from_fn(|_| f64::from(rng.normal())));
        let mut v = [[0.0; WEIGHTS]; FILTERS];
        let largest = |w: &[[f64; WEIGHTS]; FILTERS]| {
            (0..WEIGHTS).map(|i| (w[0][i] - w[1][i]).abs().max((w[0][i] - w[2][i]).abs())).fold(0.0, f64::max)
        };
        let before = largest(&w);
        for step in 0..schedule.total_steps {
            let lr = schedule.lr(step);
            for i in 0..WEIGHTS {
                let mean_gradient =
                    (0..FILTERS).map(|_| f64::from(rng.normal())).sum::<f64>() / FILTERS as f64;
                let mean = w.iter().map(|filter| filter[i]).sum::<f64>() / FILTERS as f64;
                for (w, v) in w.iter_mut().zip(&mut v) {
                    let g = mean_gradient + eta * w[i] - eps * (mean - w[i]);
                    v[i] = momentum * v[i] + g;
                    w[i] -= lr * if nesterov == Direction::HeavyBall { v[i] } else { g + momentum * v[i] };
                }
            }
        }
        (largest(&w) / before).ln()
    }

    #[test]
    fn forecast_is_what_training_does_whatever_the_gradients() {
        for nesterov in BOTH {
            for schedule in [constant(0.05, 600), cosine(0.1, 600)] {
                for (momentum, eps, eta) in [(0.0, 0.3, 1e-3), (0.9, 0.02, 5e-4), (0.5, 0.2, 0.0)] {
                    let forecast = log_contraction(&begin(momentum, nesterov, eta), &schedule, eps);
                    let trained = train(&schedule, momentum, nesterov, eps, eta);
                    assert!(forecast.log_shrink < -3.0);
                    assert!((forecast.log_shrink - trained).abs() < 1e-6, "{forecast:?} {trained}");
                }
            }
        }
    }

    #[test]
    fn step_by_step_is_the_same_as_at_once() {
        for direction in BOTH {
            let schedule = cosine(0.1, 300);
            let mut contraction = begin(0.9, direction, 0.0);
            assert_eq!(contraction.log_shrink(), 0.0);
            (0..300).for_each(|step| contraction.step(schedule.lr(step), 0.03));
            let at_once = log_contraction(&begin(0.9, direction, 0.0), &schedule, 0.03).log_shrink;
            assert!((contraction.log_shrink() - at_once).abs() < 1e-9);
        }
    }

    #[test]
    fn an_oscillating_difference_is_never_called_smaller_than_it_is() {
        for nesterov in BOTH {
            for steps in 100..140 {
                let schedule = constant(0.1, steps);
                let forecast = log_contraction(&begin(0.9, nesterov, 0.0), &schedule, 1.0).log_shrink;
                let trained = train(&schedule, 0.9, nesterov, 1.0, 0.0);
                assert!(trained <= forecast + 1e-6, "{steps}: {trained} {forecast}");
            }
        }
    }

    #[test]
    fn without_momentum_each_step_is_one_factor() {
        let schedule = constant(0.1, 5000);
        for nesterov in BOTH {
            let forecast = log_contraction(&begin(0.0, nesterov, 0.5), &schedule, 2.0);
            let exact = 5000.0 * (1.0_f64 - 0.1 * 2.5).ln();
            assert!((forecast.log_shrink - exact).abs() < 1e-6, "{} {exact}", forecast.log_shrink);
            // Far below the smallest f64.
            assert!(forecast.log_shrink < -1000.0);
        }
        assert_eq!(
            log_contraction(&begin(0.0, Direction::HeavyBall, 0.0), &schedule, 10.0).log_shrink,
            -LOG_LIMIT
        );
    }

    #[test]
    fn weak_pulls_follow_the_sum_of_learning_rates() {
        for nesterov in BOTH {
            for schedule in [constant(0.01, 20_000), cosine(0.02, 20_000)] {
                let sum: f64 = (0..schedule.total_steps).map(|step| schedule.lr(step)).sum();
                let estimate = sum * (4e-3 + 1e-4) / (1.0 - 0.9);
                let nats = -log_contraction(&begin(0.9, nesterov, 1e-4), &schedule, 4e-3).log_shrink;
                assert!((nats / estimate - 1.0).abs() < 0.01, "{nats} {estimate}");
            }
        }
    }

    #[test]
    fn official_resnet56_kernels_at_epoch_20_and_gammas_at_200() {
        let epoch: u64 = 50_000 / 64;
        let nats = |epochs, eps, eta| {
            -log_contraction(&begin(0.9, Direction::HeavyBall, eta), &constant(3e-2, epochs * epoch), eps)
                .log_shrink
        };
        assert!((nats(20, 3e-3, 1e-4) - 14.5).abs() < 0.2, "{}", nats(20, 3e-3, 1e-4));
        assert!((nats(200, 3e-4, 0.0) - 14.1).abs() < 0.1, "{}", nats(200, 3e-4, 0.0));
    }

    #[test]
    fn the_curve_runs_from_nothing_to_the_end() {
        for steps in [1, 7, 200, 201, 12_345] {
            let forecast = log_contraction(&begin(0.9, Direction::Nesterov, 0.0), &cosine(0.05, steps), 0.05);
            assert_eq!(forecast.curve[0], (0, 0.0));
            assert_eq!(*forecast.curve.last().unwrap(), (steps, forecast.log_shrink));
            assert!(forecast.curve.len() <= 202 && forecast.curve.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn stability_ends_where_differences_begin_to_grow() {
        for nesterov in BOTH {
            for momentum in [0.0, 0.5, 0.9, 0.99] {
                let limit = nesterov.stability_limit(momentum);
                let at =
                    |pull| log_contraction(&begin(momentum, nesterov, 0.0), &constant(1.0, 20_000), pull);
                let (below, above) = (at(0.99 * limit), at(1.01 * limit));
                assert_eq!((below.stability, above.stability), (Stability::Stable, Stability::Unstable));
                assert!(below.log_shrink < -10.0 && above.log_shrink > 10.0, "{momentum} {nesterov:?}");
                assert!(!above.reaches(-1e9), "an unstable run reaches nothing");
            }
        }
        let absurd = log_contraction(&begin(0.9, Direction::HeavyBall, 0.0), &constant(1.0, 50), 1e300);
        assert!(absurd.log_shrink > 1000.0 && absurd.log_shrink <= LOG_LIMIT, "{}", absurd.log_shrink);
    }

    #[test]
    fn auto_is_the_smallest_strength_that_suffices() {
        for nesterov in BOTH {
            for momentum in [0.0, 0.9] {
                for schedule in [constant(0.05, 2000), cosine(0.1, 400), constant(1e-4, 50_000)] {
                    let reaches = |eps| {
                        log_contraction(&begin(momentum, nesterov, 0.0), &schedule, eps).reaches(AUTO_TARGET)
                    };
                    let sustained = |eps: f64| (0..5).all(|i| reaches(eps * (1.0 + 0.01 * f64::from(i))));
                    let eps = auto_strength(&begin(momentum, nesterov, 0.0), &schedule, AUTO_TARGET).unwrap();
                    assert!(sustained(eps) && !sustained(0.999 * eps), "{eps}");
                    let mut weaker = 0.95 * eps;
                    while weaker > 1e-3 * eps {
                        assert!(!sustained(weaker), "{weaker} would do, auto chose {eps}");
                        weaker *= 0.95;
                    }
                }
            }
        }
    }

    #[test]
    fn a_higher_target_never_needs_less_strength() {
        for nesterov in BOTH {
            let schedule = cosine(0.05, 400);
            let auto = |target| {
                auto_strength(&begin(0.9, nesterov, 0.0), &schedule, target).unwrap_or(f64::INFINITY)
            };
            let strengths: Vec<f64> = (4..=40).map(|half| auto(f64::from(half) / 2.0)).collect();
            assert!(strengths.is_sorted(), "{strengths:?}");
        }
    }

    #[test]
    fn weight_decay_counts_towards_the_pull() {
        let schedule = constant(0.05, 2000);
        let auto =
            |eta| auto_strength(&begin(0.9, Direction::HeavyBall, eta), &schedule, AUTO_TARGET).unwrap();
        let alone = auto(0.0);
        assert!((auto(alone / 2.0) / (alone / 2.0) - 1.0).abs() < 1e-3);
        assert_eq!(auto(2.0 * alone), 0.0);
    }

    #[test]
    fn a_schedule_that_is_too_short_is_told_how_long_it_must_be() {
        for (nesterov, steps) in [(Direction::HeavyBall, 100), (Direction::Nesterov, 4)] {
            let error =
                auto_strength(&begin(0.9, nesterov, 0.0), &constant(0.1, steps), AUTO_TARGET).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("found {steps} steps")), "{text}");
            let needed = text.split("about ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            let needed: u64 = needed.parse().unwrap();
            assert!(needed > steps && needed < 20 * steps, "{text}");
            auto_strength(&begin(0.9, nesterov, 0.0), &constant(0.1, needed), AUTO_TARGET).unwrap();
        }
    }

    #[test]
    fn a_strength_set_by_hand_is_judged_with_the_number_that_would_do() {
        let schedule = cosine(0.05, 3000);
        let judge = |eps| assess(&begin(0.9, Direction::Nesterov, 0.0), &schedule, eps, LOSSLESS).unwrap().1;
        let Verdict::Insufficient { needed } = judge(1e-3) else { panic!("{:?}", judge(1e-3)) };
        assert_eq!(judge(needed), Verdict::Enough);
        let Verdict::Unstable { limit } = judge(100.0) else { panic!("{:?}", judge(100.0)) };
        assert!(!matches!(judge(0.999 * limit), Verdict::Unstable { .. }));
        let short =
            assess(&begin(0.9, Direction::HeavyBall, 0.0), &constant(0.1, 50), 0.1, LOSSLESS).unwrap().1;
        assert!(
            matches!(short, Verdict::TooShort(TooShort { steps, slowest: Slowest::Filters, .. }) if steps > 50),
            "{short:?}"
        );
    }

    #[test]
    fn running_statistics_hold_a_run_up_that_filters_would_not() {
        let nesterov = |steps, a| {
            let begin = with_statistics(0.9, Direction::Nesterov, a);
            find_strength(&begin, &constant(0.05, steps), LOSSLESS).unwrap()
        };
        // Filters alone need 60 steps; with a = 0.1 nothing is forgotten in less than 16 / 0.105 = 152.
        let alone =
            find_strength(&begin(0.9, Direction::Nesterov, 0.0), &constant(0.05, 60), LOSSLESS).unwrap();
        let Err(short) = nesterov(60, 0.1) else { panic!("{:?}", nesterov(60, 0.1)) };
        assert_eq!(short.slowest, Slowest::Statistics);
        assert!((152..170).contains(&short.steps), "{short:?}");
        assert!((short.reached - 60.0 * -0.9f64.ln()).abs() < 1.0, "{short:?}");
        assert!(nesterov(short.steps, 0.1).is_ok());
        // The slower batch norm forgets, the stronger the pull must be, until none is enough.
        let strengths: Vec<f64> =
            [1.0, 0.5, 0.3, 0.27].map(|a| nesterov(60, a).unwrap_or(f64::INFINITY)).to_vec();
        assert!(strengths.is_sorted() && strengths[0] < f64::INFINITY, "{strengths:?}");
        assert!(alone.unwrap() <= strengths[0]);
        // Where filters are the slow ones, statistics change nothing.
        let slow = constant(0.01, 2000);
        let with =
            auto_strength(&with_statistics(0.9, Direction::HeavyBall, 0.1), &slow, AUTO_TARGET).unwrap();
        let without = auto_strength(&begin(0.9, Direction::HeavyBall, 0.0), &slow, AUTO_TARGET).unwrap();
        assert_eq!(with, without);
        // Batch norm that never follows the data never forgets.
        let error =
            find_strength(&with_statistics(0.9, Direction::HeavyBall, 0.0), &slow, LOSSLESS).unwrap_err();
        assert!(error.to_string().contains("momentum of batch norm"), "{error}");
    }

    #[test]
    fn filters_are_merged_from_a_step_on_and_stay_so() {
        let schedule = cosine(0.05, 2000);
        let begin = begin(0.9, Direction::HeavyBall, 0.0);
        let at = |strength| log_contraction(&begin, &schedule, strength).merged_at;
        let enough = auto_strength(&begin, &schedule, LOSSLESS).unwrap();
        let (exact, twice) = (at(enough).unwrap(), at(2.0 * enough).unwrap());
        assert!(exact <= 2000 && twice < exact, "{exact} {twice}");
        assert_eq!(at(0.9 * enough), None);
        let mut run = begin.clone();
        (0..twice).for_each(|step| run.step(schedule.lr(step), 2.0 * enough));
        assert!(run.is_lossless() && (run.log_shrink() + LOSSLESS).abs() < 0.1, "{}", run.log_shrink());
    }

    #[test]
    fn filters_with_weight_decay_and_gammas_without_must_both_arrive() {
        let schedule = cosine(0.05, 600);
        let kinds = |decays: &[f64]| {
            let differences = Differences { decays: decays.to_vec(), statistics: None };
            Contraction::new(0.9, Direction::HeavyBall, &differences)
        };
        let of = |decays: &[f64]| log_contraction(&kinds(decays), &schedule, 0.05).log_shrink;
        assert_eq!(of(&[0.0, 0.01]), of(&[0.0]).max(of(&[0.01])));
        let auto = |decays: &[f64]| auto_strength(&kinds(decays), &schedule, AUTO_TARGET).unwrap();
        assert!(auto(&[0.0, 0.01]) >= auto(&[0.0]) && auto(&[0.0]) > auto(&[0.01]));
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        let schedule = constant(0.1, 100);
        let auto = |momentum, eta, target| {
            auto_strength(&begin(momentum, Direction::HeavyBall, eta), &schedule, target)
        };
        let nan = f64::NAN;
        for (momentum, eta, target) in
            [(1.0, 0.0, 18.0), (-0.1, 0.0, 18.0), (nan, 0.0, 18.0), (0.9, -1.0, 18.0), (0.9, nan, 18.0)]
                .into_iter()
                .chain([(0.9, 0.0, 0.0), (0.9, 0.0, nan), (0.9, 0.0, f64::INFINITY)])
        {
            assert_eq!(auto(momentum, eta, target).unwrap_err().kind(), ErrorKind::Argument);
        }
        assert!(assess(&begin(0.9, Direction::HeavyBall, 0.0), &schedule, -1.0, 18.0).is_err());
        assert!(auto_strength(&begin(0.9, Direction::HeavyBall, 0.0), &constant(0.0, 9), 18.0).is_err());
    }

    /// In f32 rounding stops the contraction near e^-16, which is still no more than a rounding error of the layer.
    #[test]
    fn auto_makes_float32_filters_equal_up_to_rounding() {
        for schedule in [cosine(0.05, 2000), constant(0.05, 2000), cosine(0.1, 400)] {
            let eps =
                auto_strength(&begin(0.9, Direction::Nesterov, 0.0), &schedule, AUTO_TARGET).unwrap() as f32;
            let mut rng = Rng::new(3);
            let mut w: Vec<[f32; 2]> = (0..64).map(|_| [0.1 * rng.normal(), 0.1 * rng.normal()]).collect();
            let mut v = vec![[0.0; 2]; w.len()];
            for step in 0..schedule.total_steps {
                let lr = schedule.lr(step) as f32;
                for (w, v) in w.iter_mut().zip(&mut v) {
                    let mean_gradient = 0.01 * rng.normal();
                    let mean = (w[0] + w[1]) / 2.0;
                    for (w, v) in w.iter_mut().zip(v) {
                        let g = mean_gradient + eps * (*w - mean);
                        *v = 0.9 * *v + g;
                        *w -= lr * (g + 0.9 * *v);
                    }
                }
            }
            let difference = w.iter().map(|w| (w[0] - w[1]).abs()).fold(0.0, f32::max);
            let largest = w.iter().map(|w| w[0].abs()).fold(0.0, f32::max);
            assert!(difference < 4.0 * f32::EPSILON * largest, "{difference} of {largest}");
        }
    }
}
