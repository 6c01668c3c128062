//! Lesson 5: filters of two weights, as points in a plane, moved by the twin of `csgd_step`.

use crate::school::{Reply, get, wrong};
use centripetal::Result;
use centripetal::device::Args;
use centripetal::optim::csgd::{CLUSTER_DEVIATION, CSGD_STEP, CsgdParams, DeviationParams};
use centripetal::optim::forecast::{AUTO_TARGET, Contraction, Differences, auto_strength, log_contraction};
use centripetal::optim::{Decay, Direction, Schedule};
use centripetal::prune::cluster::{even, kmeans};
use centripetal::rng::Rng;
use serde_json::{Value, json};

/// Weights of a filter.
const DIMS: usize = 2;

/// Points with their velocities, goals and clusters.
pub(crate) struct Plane {
    points: Vec<f32>,
    velocity: Vec<f32>,
    goals: Vec<f32>,
    segments: Vec<u32>,
    members: Vec<u32>,
    labels: Vec<usize>,
    chi: f64,
    contraction: Contraction,
    direction: Direction,
    step: u64,
    history: Vec<(u64, f64, f64)>,
}

fn direction(a: &Value) -> Result<Direction> {
    Ok(if get::<bool>(a, "nesterov")? { Direction::Nesterov } else { Direction::HeavyBall })
}

impl Plane {
    pub(crate) fn new(a: &Value) -> Result<Plane> {
        let (count, keep): (usize, usize) = (get(a, "points")?, get(a, "clusters")?);
        let (momentum, direction) = (get(a, "momentum")?, direction(a)?);
        if !(1..=64).contains(&count) {
            return Err(wrong("points", &count.to_string()));
        }
        let mut rng = Rng::new(get::<u64>(a, "seed")?);
        let mut numbers =
            |spread: f32| -> Vec<f32> { (0..count * DIMS).map(|_| spread * rng.normal()).collect() };
        let points = numbers(1.0);
        // What the data wants of each filter: near where training without clusters has brought it.
        let goals: Vec<f32> = numbers(0.35).iter().zip(&points).map(|(away, point)| point + away).collect();
        let partition =
            if get::<bool>(a, "kmeans")? { kmeans(&points, DIMS, keep, 0, 10)? } else { even(count, keep)? };
        let (mut segments, mut members) = (Vec::new(), Vec::new());
        for (index, cluster) in partition.clusters().iter().enumerate() {
            segments.extend([(index * DIMS) as u32, members.len() as u32, cluster.len() as u32, DIMS as u32]);
            members.extend(cluster.iter().map(|point| (point * DIMS) as u32));
        }
        let mut plane = Plane {
            velocity: vec![0.0; points.len()],
            points,
            goals,
            segments,
            members,
            labels: partition.cluster_of(),
            chi: 0.0,
            contraction: Contraction::new(momentum, direction, &Differences::of_weights(0.0)),
            direction,
            step: 0,
            history: vec![(0, 0.0, 0.0)],
        };
        plane.chi = plane.deviation();
        Ok(plane)
    }

    fn deviation(&self) -> f64 {
        let params = DeviationParams { segments: (self.segments.len() / 4) as u32 };
        let (segments, members) = (bytemuck::cast_slice(&self.segments), bytemuck::cast_slice(&self.members));
        let mut chi = vec![0.0f32; self.segments.len() / 4];
        (CLUSTER_DEVIATION.twin)(Args::of(&params, &[segments, members, &self.points], [&mut chi]));
        chi.iter().map(|&chi| f64::from(chi)).sum()
    }

    pub(crate) fn steps(&mut self, a: &Value) -> Result<()> {
        let (lr, momentum, strength, decay): (f64, f64, f64, f64) =
            (get(a, "lr")?, get(a, "momentum")?, get(a, "strength")?, get(a, "decay")?);
        let curvature: f32 = get(a, "curvature")?;
        let params = CsgdParams {
            items: (self.segments.len() / 4 * DIMS) as u32,
            segments: (self.segments.len() / 4) as u32,
            decayed: self.points.len() as u32,
            nesterov: u32::from(self.direction == Direction::Nesterov),
            lr: lr as f32,
            momentum: momentum as f32,
            weight_decay: decay as f32,
            strength: strength as f32,
        };
        for _ in 0..get::<u64>(a, "steps")?.min(1000) {
            // The loss is a bowl around each point's goal.
            let bowl = |(point, goal): (&f32, &f32)| curvature * (point - goal);
            let gradients: Vec<f32> = self.points.iter().zip(&self.goals).map(bowl).collect();
            let (segments, members) =
                (bytemuck::cast_slice(&self.segments), bytemuck::cast_slice(&self.members));
            let inputs: [&[f32]; 4] = [&gradients, &[0.0; 5], segments, members];
            (CSGD_STEP.twin)(Args::of(&params, &inputs, [&mut self.points, &mut self.velocity]));
            self.contraction.step(lr, strength + decay);
            self.step += 1;
            if self.step <= 200 || self.step.is_multiple_of(10) {
                self.history.push((self.step, self.measured(), self.contraction.log_shrink()));
            }
        }
        Ok(())
    }

    /// The logarithm of what differences have shrunk to.
    fn measured(&self) -> f64 {
        if self.chi > 0.0 { ((self.deviation() / self.chi).ln() / 2.0).max(-60.0) } else { 0.0 }
    }

    pub(crate) fn show(&self) -> Reply {
        let count = self.labels.iter().max().map_or(0, |most| most + 1);
        let mut centres = vec![(0.0f32, 0.0f32, 0.0f32); count];
        for (point, &label) in self.points.chunks_exact(DIMS).zip(&self.labels) {
            let (x, y, n) = &mut centres[label];
            (*x, *y, *n) = (*x + point[0], *y + point[1], *n + 1.0);
        }
        let chi = self.deviation();
        json!({
            "step": self.step,
            "points": self.points.chunks_exact(DIMS).collect::<Vec<_>>(),
            "goals": self.goals.chunks_exact(DIMS).collect::<Vec<_>>(),
            "centres": centres.iter().map(|(x, y, n)| [x / n, y / n]).collect::<Vec<_>>(),
            "labels": self.labels,
            "chi": chi,
            "measured": self.measured(),
            "forecast": self.contraction.log_shrink(),
            "history": self.history,
        })
        .into()
    }
}

/// What a constant rate does over `steps` steps, and the strength that would be enough.
pub(crate) fn forecast(a: &Value) -> Result<Reply> {
    let schedule = Schedule {
        base_lr: get(a, "lr")?,
        total_steps: get(a, "steps")?,
        warmup_steps: 0,
        decay: Decay::Constant,
    };
    let (momentum, strength, decay): (f64, f64, f64) =
        (get(a, "momentum")?, get(a, "strength")?, get(a, "decay")?);
    let direction = direction(a)?;
    let begin = Contraction::new(momentum, direction, &Differences::of_weights(decay));
    let forecast = log_contraction(&begin, &schedule, strength);
    let needed = auto_strength(&begin, &schedule, AUTO_TARGET);
    Ok(json!({
        "logShrink": forecast.log_shrink,
        "stable": forecast.reaches(-1e9),
        "needed": needed.as_ref().ok(),
        "why": needed.as_ref().err().map(ToString::to_string),
    })
    .into())
}
