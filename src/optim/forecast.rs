//! Will a schedule make filters identical? The contraction of C-SGD, computed before training.
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
//! Kernels have eta; gamma and beta, which must become equal too, have eta = 0. Whoever wants the cut to be
//! lossless therefore asks with **eta = 0**, and with the smallest eps if parameters have different ones.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::optim::schedule::Schedule;
use crate::optim::sgd::Direction;

/// Nats of contraction that make float32 filters equal: `e^-16 = 1.1e-7` is one unit in the last place.
pub const LOSSLESS: f64 = 16.0;

/// Nats that `auto` aims for: [`LOSSLESS`] and a factor of 7, because filters start up to a few times their own
/// size apart. More gains little: f32 rounding of the updates holds differences at about `1e-7` of a layer's
/// largest weight.
pub const AUTO_TARGET: f64 = 18.0;

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

/// What a schedule does to the differences inside clusters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Natural logarithm of `max(|d|, lr·mu·|v|)` after the run, from 0 before it; negative is shrunk. The
    /// velocity's part keeps a zero crossing of an oscillating d from passing for contraction.
    pub log_shrink: f64,
    /// `(steps done, logarithm)` at about 200 places, both ends included.
    pub curve: Vec<(u64, f64)>,
    /// Whether the strength is small enough for the highest learning rate.
    pub stability: Stability,
}

impl Forecast {
    /// Whether differences end at least `target` nats smaller without ever growing.
    pub fn reaches(&self, target: f64) -> bool {
        self.stability == Stability::Stable && self.log_shrink <= -target
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
    TooShort {
        /// About how many steps would do, at the best strength and with the schedule stretched.
        steps: u64,
    },
    /// Differences grow at the highest learning rate.
    Unstable {
        /// Strengths must stay below this.
        limit: f64,
    },
}

/// Forecasts the contraction of `schedule` with momentum coefficient `momentum`, strength `eps` and weight decay
/// `eta`, in one pass over the steps. The arguments are taken as [`assess`] would accept them.
pub fn log_contraction(
    schedule: &Schedule,
    momentum: f64,
    nesterov: Direction,
    eps: f64,
    eta: f64,
) -> Forecast {
    let stride = schedule.total_steps.div_ceil(CURVE_POINTS).max(1);
    let mut curve = vec![(0, 0.0)];
    let mut run = Recurrence::new(momentum, nesterov, eps + eta);
    let mut highest: f64 = 0.0;
    for step in 0..schedule.total_steps {
        let lr = schedule.lr(step);
        highest = highest.max(lr);
        run.step(lr);
        let done = step + 1;
        if done.is_multiple_of(stride) || done == schedule.total_steps {
            curve.push((done, run.log(lr)));
        }
    }
    let log_shrink = curve[curve.len() - 1].1;
    let stable = highest * (eps + eta) < nesterov.stability_limit(momentum);
    Forecast { log_shrink, curve, stability: if stable { Stability::Stable } else { Stability::Unstable } }
}

/// The smallest strength whose forecast reaches `target` nats ([`AUTO_TARGET`]); 0 if weight decay alone does.
///
/// Strengths are tried upwards and the first success is refined, because contraction is not monotone in the
/// strength. Where it ripples, a strength counts only if those up to 4 % above it reach the target too. Only the product lr·(eps + eta) matters, so a schedule that fails here fails at any
/// learning rate: it needs more steps, or less decay.
///
/// # Errors
/// [`ErrorKind::Argument`] if an argument is out of range, or if no strength reaches the target; the message then
/// says how many steps would.
pub fn auto_strength(
    schedule: &Schedule,
    momentum: f64,
    nesterov: Direction,
    eta: f64,
    target: f64,
) -> Result<f64> {
    check(schedule, momentum, eta, target)?;
    search(schedule, momentum, nesterov, eta, target).map_err(|best| {
        let steps = steps_needed(schedule, momentum, nesterov, target, best);
        Error::new(ErrorKind::Argument, "choosing the centripetal strength")
            .expected(format!("a schedule in which differences of filters can shrink by e^{target}"))
            .found(format!("{} steps, in which the best strength reaches e^{best:.1}", schedule.total_steps))
            .next(format!("Train for about {steps} steps (more epochs or a smaller batch)."))
    })
}

/// Judges a strength chosen by hand before training with it, with the number that would do.
///
/// # Errors
/// [`ErrorKind::Argument`] if an argument is out of range.
pub fn assess(
    schedule: &Schedule,
    momentum: f64,
    nesterov: Direction,
    eps: f64,
    eta: f64,
    target: f64,
) -> Result<(Forecast, Verdict)> {
    check(schedule, momentum, eta, target)?;
    if !(eps.is_finite() && eps >= 0.0) {
        return Err(out_of_range("centripetal strength", "a number of at least 0", eps));
    }
    let forecast = log_contraction(schedule, momentum, nesterov, eps, eta);
    let verdict = if forecast.stability == Stability::Unstable {
        Verdict::Unstable { limit: nesterov.stability_limit(momentum) / highest_lr(schedule) - eta }
    } else if forecast.reaches(target) {
        Verdict::Enough
    } else {
        match search(schedule, momentum, nesterov, eta, target) {
            Ok(needed) => Verdict::Insufficient { needed },
            Err(best) => {
                Verdict::TooShort { steps: steps_needed(schedule, momentum, nesterov, target, best) }
            }
        }
    };
    Ok((forecast, verdict))
}

/// The smallest sufficient eps, or the most nats that any eps reaches.
fn search(
    schedule: &Schedule,
    momentum: f64,
    nesterov: Direction,
    eta: f64,
    target: f64,
) -> std::result::Result<f64, f64> {
    let nats = |pull: f64| {
        let mut run = Recurrence::new(momentum, nesterov, pull);
        (0..schedule.total_steps).for_each(|step| run.step(schedule.lr(step)));
        -run.log(schedule.lr(schedule.total_steps - 1))
    };
    let mut best = nats(eta);
    if best >= target {
        return Ok(0.0);
    }
    let highest = highest_lr(schedule);
    let limit = nesterov.stability_limit(momentum) / highest;
    let smooth = nesterov.ripple_limit(momentum) / highest;
    let sum: f64 = (0..schedule.total_steps).map(|step| schedule.lr(step)).sum();
    // An eighth of the estimate for weak pulls is too little, unless so few steps are left that it is no
    // estimate any more.
    let mut too_weak = (target * (1.0 - momentum) / sum / 8.0).min(limit / 1000.0).max(eta);
    while too_weak > eta && nats(too_weak) >= target {
        too_weak = (too_weak / 8.0).max(eta);
    }
    let mut window = [0.0; SUSTAINED];
    let mut enough = loop {
        let rippling = too_weak * SMOOTH_RATIO >= smooth;
        let pull = too_weak * if rippling { RIPPLE_RATIO } else { SMOOTH_RATIO };
        if pull >= limit {
            return Err(best);
        }
        if rippling {
            window.rotate_left(1);
            window[SUSTAINED - 1] = nats(pull);
        } else {
            window.fill(nats(pull));
        }
        let sustained = window.iter().copied().fold(f64::INFINITY, f64::min);
        best = best.max(sustained);
        if sustained >= target {
            let first = if rippling { pull / RIPPLE_RATIO.powi(SUSTAINED as i32 - 1) } else { pull };
            too_weak = if rippling { first / RIPPLE_RATIO } else { too_weak };
            break first;
        }
        too_weak = pull;
    };
    while enough > too_weak * (1.0 + PRECISION) {
        let middle = (too_weak * enough).sqrt();
        if nats(middle) >= target { enough = middle } else { too_weak = middle }
    }
    Ok(enough - eta)
}

fn highest_lr(schedule: &Schedule) -> f64 {
    (0..schedule.total_steps).map(|step| schedule.lr(step)).fold(0.0, f64::max)
}

/// The length at which a stretched `schedule` reaches `target`, if its best strength reaches `best` now.
///
/// Contraction grows with the length, less what gathering momentum costs, so proportion alone falls short.
fn steps_needed(schedule: &Schedule, momentum: f64, nesterov: Direction, target: f64, best: f64) -> u64 {
    let mut steps = schedule.total_steps;
    let mut reached = best;
    loop {
        let growth = if reached > 0.0 { (target / reached).clamp(1.02, 8.0) } else { 8.0 };
        steps = (steps as f64 * growth).ceil() as u64;
        if steps > LONGEST_SEARCH {
            return steps;
        }
        match search(&schedule.stretched(steps), momentum, nesterov, 0.0, target) {
            Ok(_) => return steps,
            Err(best) => reached = best,
        }
    }
}

fn check(schedule: &Schedule, momentum: f64, eta: f64, target: f64) -> Result<()> {
    schedule.validate()?;
    if !(0.0..1.0).contains(&momentum) {
        return Err(out_of_range("momentum", "a number from 0 to below 1", momentum));
    }
    if !(eta.is_finite() && eta >= 0.0) {
        return Err(out_of_range("weight decay", "a number of at least 0", eta));
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

/// The contraction of a run whose learning rate and strength change as it goes, step by step.
#[derive(Debug, Clone)]
pub struct Contraction {
    run: Recurrence,
    lr: f64,
}

impl Contraction {
    /// Before the first step.
    pub fn new(momentum: f64, direction: Direction) -> Self {
        Contraction { run: Recurrence::new(momentum, direction, 0.0), lr: 0.0 }
    }

    /// One step at learning rate `lr` and pull `eps + eta`.
    pub fn step(&mut self, lr: f64, pull: f64) {
        self.run.pull = pull;
        self.run.step(lr);
        self.lr = lr;
    }

    /// As [`Forecast::log_shrink`], so far.
    pub fn log_shrink(&self) -> f64 {
        self.run.log(self.lr)
    }
}

/// The state of a difference, times `e^-log_scale` so that it neither underflows nor overflows.
#[derive(Debug, Clone)]
struct Recurrence {
    momentum: f64,
    nesterov: Direction,
    pull: f64,
    difference: f64,
    velocity: f64,
    log_scale: f64,
}

impl Recurrence {
    fn new(momentum: f64, nesterov: Direction, pull: f64) -> Self {
        Recurrence { momentum, nesterov, pull, difference: 1.0, velocity: 0.0, log_scale: 0.0 }
    }

    fn step(&mut self, lr: f64) {
        let gradient = self.pull * self.difference;
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
        }
    }

    /// What is left now, and what the velocity will still add.
    fn size(&self, lr: f64) -> f64 {
        self.difference.abs().max((lr * self.momentum * self.velocity).abs())
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
                    let forecast = log_contraction(&schedule, momentum, nesterov, eps, eta);
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
            let mut contraction = Contraction::new(0.9, direction);
            assert_eq!(contraction.log_shrink(), 0.0);
            (0..300).for_each(|step| contraction.step(schedule.lr(step), 0.03));
            let at_once = log_contraction(&schedule, 0.9, direction, 0.03, 0.0).log_shrink;
            assert!((contraction.log_shrink() - at_once).abs() < 1e-9);
        }
    }

    #[test]
    fn an_oscillating_difference_is_never_called_smaller_than_it_is() {
        for nesterov in BOTH {
            for steps in 100..140 {
                let schedule = constant(0.1, steps);
                let forecast = log_contraction(&schedule, 0.9, nesterov, 1.0, 0.0).log_shrink;
                let trained = train(&schedule, 0.9, nesterov, 1.0, 0.0);
                assert!(trained <= forecast + 1e-6, "{steps}: {trained} {forecast}");
            }
        }
    }

    #[test]
    fn without_momentum_each_step_is_one_factor() {
        let schedule = constant(0.1, 5000);
        for nesterov in BOTH {
            let forecast = log_contraction(&schedule, 0.0, nesterov, 2.0, 0.5);
            let exact = 5000.0 * (1.0_f64 - 0.1 * 2.5).ln();
            assert!((forecast.log_shrink - exact).abs() < 1e-6, "{} {exact}", forecast.log_shrink);
            // Far below the smallest f64.
            assert!(forecast.log_shrink < -1000.0);
        }
        assert_eq!(log_contraction(&schedule, 0.0, Direction::HeavyBall, 10.0, 0.0).log_shrink, -LOG_LIMIT);
    }

    #[test]
    fn weak_pulls_follow_the_sum_of_learning_rates() {
        for nesterov in BOTH {
            for schedule in [constant(0.01, 20_000), cosine(0.02, 20_000)] {
                let sum: f64 = (0..schedule.total_steps).map(|step| schedule.lr(step)).sum();
                let estimate = sum * (4e-3 + 1e-4) / (1.0 - 0.9);
                let nats = -log_contraction(&schedule, 0.9, nesterov, 4e-3, 1e-4).log_shrink;
                assert!((nats / estimate - 1.0).abs() < 0.01, "{nats} {estimate}");
            }
        }
    }

    #[test]
    fn official_resnet56_kernels_at_epoch_20_and_gammas_at_200() {
        let epoch: u64 = 50_000 / 64;
        let nats = |epochs, eps, eta| {
            -log_contraction(&constant(3e-2, epochs * epoch), 0.9, Direction::HeavyBall, eps, eta).log_shrink
        };
        assert!((nats(20, 3e-3, 1e-4) - 14.5).abs() < 0.2, "{}", nats(20, 3e-3, 1e-4));
        assert!((nats(200, 3e-4, 0.0) - 14.1).abs() < 0.1, "{}", nats(200, 3e-4, 0.0));
    }

    #[test]
    fn the_curve_runs_from_nothing_to_the_end() {
        for steps in [1, 7, 200, 201, 12_345] {
            let forecast = log_contraction(&cosine(0.05, steps), 0.9, Direction::Nesterov, 0.05, 0.0);
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
                let at = |pull| log_contraction(&constant(1.0, 20_000), momentum, nesterov, pull, 0.0);
                let (below, above) = (at(0.99 * limit), at(1.01 * limit));
                assert_eq!((below.stability, above.stability), (Stability::Stable, Stability::Unstable));
                assert!(below.log_shrink < -10.0 && above.log_shrink > 10.0, "{momentum} {nesterov:?}");
                assert!(!above.reaches(-1e9), "an unstable run reaches nothing");
            }
        }
        let absurd = log_contraction(&constant(1.0, 50), 0.9, Direction::HeavyBall, 1e300, 0.0);
        assert!(absurd.log_shrink > 1000.0 && absurd.log_shrink <= LOG_LIMIT, "{}", absurd.log_shrink);
    }

    #[test]
    fn auto_is_the_smallest_strength_that_suffices() {
        for nesterov in BOTH {
            for momentum in [0.0, 0.9] {
                for schedule in [constant(0.05, 2000), cosine(0.1, 400), constant(1e-4, 50_000)] {
                    let reaches =
                        |eps| log_contraction(&schedule, momentum, nesterov, eps, 0.0).reaches(AUTO_TARGET);
                    let sustained = |eps: f64| (0..5).all(|i| reaches(eps * (1.0 + 0.01 * f64::from(i))));
                    let eps = auto_strength(&schedule, momentum, nesterov, 0.0, AUTO_TARGET).unwrap();
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
            let auto = |target| auto_strength(&schedule, 0.9, nesterov, 0.0, target).unwrap_or(f64::INFINITY);
            let strengths: Vec<f64> = (4..=40).map(|half| auto(f64::from(half) / 2.0)).collect();
            assert!(strengths.is_sorted(), "{strengths:?}");
        }
    }

    #[test]
    fn weight_decay_counts_towards_the_pull() {
        let schedule = constant(0.05, 2000);
        let auto = |eta| auto_strength(&schedule, 0.9, Direction::HeavyBall, eta, AUTO_TARGET).unwrap();
        let alone = auto(0.0);
        assert!((auto(alone / 2.0) / (alone / 2.0) - 1.0).abs() < 1e-3);
        assert_eq!(auto(2.0 * alone), 0.0);
    }

    #[test]
    fn a_schedule_that_is_too_short_is_told_how_long_it_must_be() {
        for (nesterov, steps) in [(Direction::HeavyBall, 100), (Direction::Nesterov, 4)] {
            let error = auto_strength(&constant(0.1, steps), 0.9, nesterov, 0.0, AUTO_TARGET).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&format!("found {steps} steps")), "{text}");
            let needed = text.split("about ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
            let needed: u64 = needed.parse().unwrap();
            assert!(needed > steps && needed < 20 * steps, "{text}");
            auto_strength(&constant(0.1, needed), 0.9, nesterov, 0.0, AUTO_TARGET).unwrap();
        }
    }

    #[test]
    fn a_strength_set_by_hand_is_judged_with_the_number_that_would_do() {
        let schedule = cosine(0.05, 3000);
        let judge = |eps| assess(&schedule, 0.9, Direction::Nesterov, eps, 0.0, LOSSLESS).unwrap().1;
        let Verdict::Insufficient { needed } = judge(1e-3) else { panic!("{:?}", judge(1e-3)) };
        assert_eq!(judge(needed), Verdict::Enough);
        let Verdict::Unstable { limit } = judge(100.0) else { panic!("{:?}", judge(100.0)) };
        assert!(!matches!(judge(0.999 * limit), Verdict::Unstable { .. }));
        let short = assess(&constant(0.1, 50), 0.9, Direction::HeavyBall, 0.1, 0.0, LOSSLESS).unwrap().1;
        assert!(matches!(short, Verdict::TooShort { steps } if steps > 50), "{short:?}");
    }

    #[test]
    fn arguments_out_of_range_are_refused() {
        let schedule = constant(0.1, 100);
        let auto =
            |momentum, eta, target| auto_strength(&schedule, momentum, Direction::HeavyBall, eta, target);
        let nan = f64::NAN;
        for (momentum, eta, target) in
            [(1.0, 0.0, 18.0), (-0.1, 0.0, 18.0), (nan, 0.0, 18.0), (0.9, -1.0, 18.0), (0.9, nan, 18.0)]
                .into_iter()
                .chain([(0.9, 0.0, 0.0), (0.9, 0.0, nan), (0.9, 0.0, f64::INFINITY)])
        {
            assert_eq!(auto(momentum, eta, target).unwrap_err().kind(), ErrorKind::Argument);
        }
        assert!(assess(&schedule, 0.9, Direction::HeavyBall, -1.0, 0.0, 18.0).is_err());
        assert!(auto_strength(&constant(0.0, 9), 0.9, Direction::HeavyBall, 0.0, 18.0).is_err());
    }

    /// In f32 rounding stops the contraction near e^-16, which is still no more than a rounding error of the layer.
    #[test]
    fn auto_makes_float32_filters_equal_up_to_rounding() {
        for schedule in [cosine(0.05, 2000), constant(0.05, 2000), cosine(0.1, 400)] {
            let eps = auto_strength(&schedule, 0.9, Direction::Nesterov, 0.0, AUTO_TARGET).unwrap() as f32;
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
