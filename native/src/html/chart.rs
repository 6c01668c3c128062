//! A line chart as inline SVG: coloured by the page's style sheet, told in words by its title and description.

use super::format::escape;
use std::fmt::Write;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 30.0;

/// Most points of a line: more than there are pixels show nothing.
const MAX_POINTS: usize = 400;

/// Most decades of a logarithmic scale, from the largest value down: what is smaller is rounding.
const MAX_DECADES: i32 = 40;

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    Logarithmic,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Strong,
    Thin,
    Dashed,
}

impl Style {
    fn class(self) -> &'static str {
        match self {
            Style::Strong => "strong",
            Style::Thin => "thin",
            Style::Dashed => "dashed",
        }
    }
}

/// One line.
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) style: Style,
    /// Step and value.
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart over the steps of training.
pub(super) struct Chart<'a> {
    /// Prefix of the ids of its title and description.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    pub(super) description: &'a str,
    /// Unit at the values' axis.
    pub(super) unit: &'a str,
    pub(super) scale: Scale,
    /// Where the steps end.
    pub(super) last_step: f64,
    /// Step at which each phase begins, and its name.
    pub(super) phases: &'a [(f64, String)],
    pub(super) series: Vec<Series>,
}

impl Chart<'_> {
    /// The chart as a figure; empty where there is nothing to show.
    pub(super) fn draw(mut self) -> String {
        let is_shown =
            |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (self.scale == Scale::Linear || y > 0.0);
        for series in &mut self.series {
            series.points.retain(is_shown);
            thin_out(&mut series.points);
        }
        self.series.retain(|series| !series.points.is_empty());
        let all = || self.series.iter().flat_map(|series| &series.points);
        if self.series.is_empty() {
            return String::new();
        }
        let (low, high) = all().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
        let axis = match self.scale {
            Scale::Linear => Axis::linear(low, high),
            Scale::Logarithmic => Axis::logarithmic(low, high),
        };
        let steps = Axis::steps(self.last_step);

        let mut legend = String::new();
        for series in &self.series {
            let _ = write!(legend, "<span class=\"{}\">{}</span>", series.style.class(), series.name);
        }
        let (id, title) = (self.id, self.title);
        let mut svg = format!(
            "<figure>\n<figcaption>{title}<span class=\"legend\">{legend}</span></figcaption>\n\
             <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"{id}-title {id}-text\">\n\
             <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-text\">{}</desc>\n",
            escape(&self.describe())
        );
        self.frame(&mut svg, &steps, &axis);
        for series in &self.series {
            for part in series.points.chunk_by(|(a, _), (b, _)| self.phase(*a) == self.phase(*b)) {
                let place =
                    |(x, y): &(f64, f64)| (LEFT + steps.part(*x) * (WIDTH - LEFT - RIGHT), y_of(&axis, *y));
                let list: Vec<String> =
                    part.iter().map(place).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let class = series.style.class();
                let _ = writeln!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", list.join(" "));
                if let ([point], 1) = (part, series.points.len()) {
                    let (x, y) = place(point);
                    let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
                }
            }
        }
        svg + "</svg>\n</figure>\n"
    }

    /// The phase that a step belongs to: lines break where one ends, since the schedule begins anew.
    fn phase(&self, step: f64) -> usize {
        self.phases.partition_point(|(start, _)| *start < step)
    }

    /// The chart in words: what it shows, and where each line begins and ends.
    fn describe(&self) -> String {
        let mut text = format!("{}.", self.description);
        for series in &self.series {
            if let (Some(first), Some(last)) = (series.points.first(), series.points.last()) {
                let show =
                    |y: f64| if self.scale == Scale::Linear { format!("{y:.4}") } else { format!("{y:.1e}") };
                let (from, to, unit) = (show(first.1), show(last.1), self.unit);
                let _ = write!(text, " The line \"{}\" goes from {from}{unit} to {to}{unit}.", series.name);
            }
        }
        text
    }

    fn frame(&self, svg: &mut String, steps: &Axis, axis: &Axis) {
        let right = WIDTH - RIGHT;
        for (value, label) in &axis.ticks {
            let y = y_of(axis, *value);
            let _ = writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>");
            let (x, y) = (LEFT - 6.0, y + 4.0);
            let _ =
                writeln!(svg, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{label}{}</text>", self.unit);
        }
        let bottom = HEIGHT - BOTTOM;
        let x_of = |step: f64| LEFT + steps.part(step) * (right - LEFT);
        for (step, label) in &steps.ticks {
            let anchor = if steps.part(*step) > 0.94 { "end" } else { "middle" };
            let (x, y) = (x_of(*step), bottom + 17.0);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\">{label}</text>");
        }
        for (step, name) in self.phases.iter().filter(|_| self.phases.len() > 1) {
            let x = x_of(*step);
            let _ = writeln!(svg, "<path class=\"phase\" d=\"M{x:.1} {TOP}V{bottom}\"/>");
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{}\">{}</text>", x + 5.0, TOP - 6.0, escape(name));
        }
    }
}

fn y_of(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BOTTOM - axis.part(value) * (HEIGHT - BOTTOM - TOP)
}

/// Means of neighbouring points where there are too many; the last one stays as it is.
fn thin_out(points: &mut Vec<(f64, f64)>) {
    let Some(&last) = points.last() else { return };
    if points.len() <= MAX_POINTS {
        return;
    }
    let mean = |chunk: &[(f64, f64)]| {
        let count = chunk.len() as f64;
        (chunk.iter().map(|(x, _)| x).sum::<f64>() / count, chunk.iter().map(|(_, y)| y).sum::<f64>() / count)
    };
    let mut fewer: Vec<(f64, f64)> = points.chunks(points.len().div_ceil(MAX_POINTS)).map(mean).collect();
    fewer.push(last);
    *points = fewer;
}

/// A range of values with its labels.
struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// A linear axis over the values, its ends at ticks.
    fn linear(low: f64, high: f64) -> Axis {
        let span = if high > low { high - low } else { high.abs().max(1e-6) };
        let step = round_step(span / 4.0);
        let (low, high) = ((low / step).floor(), (high / step).ceil());
        let high = if high > low { high } else { low + 1.0 };
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let ticks = (low as i64..=high as i64).map(|i| i as f64 * step);
        let ticks = ticks.map(|value| (value, format!("{value:.decimals$}"))).collect();
        Axis { low: low * step, high: high * step, scale: Scale::Linear, ticks }
    }

    /// From 0 to the last step.
    fn steps(last: f64) -> Axis {
        let step = round_step(last.max(1.0) / 5.0).max(1.0);
        let count = (last / step) as i64;
        let label = |value: f64| if value >= 1e4 { format!("{}k", value / 1e3) } else { format!("{value}") };
        let ticks = (0..=count).map(|i| (i as f64 * step, label(i as f64 * step))).collect();
        Axis { low: 0.0, high: last.max(1.0), scale: Scale::Linear, ticks }
    }

    /// A logarithmic axis over the values, its ends at powers of ten.
    fn logarithmic(low: f64, high: f64) -> Axis {
        let high = high.log10().ceil() as i32;
        let low = (low.log10().floor() as i32).clamp(high - MAX_DECADES, high - 1);
        let step = (high - low).div_euclid(6) + 1;
        let ticks = (0..).map(|i| high - i * step).take_while(|&power| power >= low);
        let ticks = ticks.map(|power| (10f64.powi(power), format!("1e{power}"))).collect();
        Axis { low: 10f64.powi(low), high: 10f64.powi(high), scale: Scale::Logarithmic, ticks }
    }

    /// Where a value lies between the ends, from 0 to 1.
    fn part(&self, value: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        part.clamp(0.0, 1.0)
    }
}

/// The next of 1, 2, 5, 10, ... at or above `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, points: Vec<(f64, f64)>) -> String {
        let series = vec![Series { name: "test", style: Style::Strong, points }];
        Chart { id: "c", title: "T", description: "D", unit: "", scale, last_step: 10.0, phases: &[], series }
            .draw()
    }

    #[test]
    fn linear_ticks_are_round_and_enclose_the_values() {
        let axis = Axis::linear(0.31, 2.26);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!((axis.part(0.0), axis.part(2.5)), (0.0, 1.0));
    }

    #[test]
    fn constant_lines_have_an_axis() {
        for value in [0.0, 0.05, -3.0, 1e-9, 1e6] {
            let axis = Axis::linear(value, value);
            assert!(axis.low <= value && value <= axis.high && axis.low < axis.high, "{value}");
            assert!(axis.ticks.len() < 12, "{value}");
        }
    }

    #[test]
    fn logarithmic_ticks_are_powers_of_ten() {
        let axis = Axis::logarithmic(3e-13, 42.0);
        assert_eq!((axis.low, axis.high), (1e-13, 100.0));
        assert!(axis.ticks.len() <= 8 && axis.ticks[0].1 == "1e2");
        assert!((axis.part(10f64.powf(-5.5)) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn lines_break_between_phases() {
        let series = vec![Series {
            name: "rate",
            style: Style::Thin,
            points: vec![(1.0, 2.0), (2.0, 1.0), (3.0, 2.0), (4.0, 1.0)],
        }];
        let phases = [(0.0, "one".to_owned()), (2.0, "two".to_owned())];
        let chart = Chart {
            id: "c",
            title: "T",
            description: "D",
            unit: "",
            scale: Scale::Linear,
            last_step: 4.0,
            phases: &phases,
            series,
        };
        assert_eq!(chart.draw().matches("<polyline").count(), 2);
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        assert_eq!(chart(Scale::Logarithmic, vec![(1.0, 0.0), (2.0, f64::NAN)]), "");
        let drawn = chart(Scale::Logarithmic, vec![(1.0, 0.0), (2.0, 1e-3), (3.0, 1e-9)]);
        assert!(drawn.contains("from 1.0e-3 to 1.0e-9"), "{drawn}");
        assert!(!drawn.contains("NaN") && !drawn.contains("inf"));
    }

    #[test]
    fn long_lines_are_thinned_and_keep_their_end() {
        let mut points: Vec<(f64, f64)> = (0..10_000).map(|i| (f64::from(i), 1.0)).collect();
        thin_out(&mut points);
        assert!(points.len() <= MAX_POINTS + 1);
        assert_eq!(points.last(), Some(&(9999.0, 1.0)));
    }
}
