//! The report of a run as one HTML file: nothing is loaded from elsewhere, nothing is executed.
//!
//! Every field is optional: a run of base training has no certificate, an old report lacks what came later.

mod chart;
mod format;

use chart::{Chart, Scale, Series, Style};
use format::{base64, count, duration, escape, milliseconds, percent, scientific};
use serde_json::Value;
use std::fmt::Write;

const STYLE: &str = include_str!("html/style.css");

/// No script can run and nothing can be fetched, whatever a name in the report says.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Fields that the page shows in a form of their own.
const SHOWN: &[&str] = &[
    "certificate",
    "classes",
    "command",
    "data",
    "device",
    "forecast",
    "groups",
    "layers",
    "model",
    "seconds",
    "seed",
    "version",
];

/// The page of `report.json`, the lines of `metrics.jsonl` and the filter sheet.
pub(crate) fn render(report: &Value, metrics: &[Value], filters_png: Option<&[u8]>) -> String {
    let title = title(report);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title} - Centripetal</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n"
    );
    page += &heading(report, &title);
    page += &certificate(report);
    page += &curves(report, metrics);
    if let Some(png) = filters_png {
        page += &filters(png);
    }
    page += &layers(report);
    page += &run(report);
    page += "</main>\n</body>\n</html>\n";
    page
}

/// The page of a comparison: its table as `cells`, heading first, and the accuracies in `rows` as bars.
pub(crate) fn comparison(title: &str, cells: &[Vec<String>], rows: &[Value], command: &str) -> String {
    let title = escape(title);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title} - Centripetal</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n</header>\n\
         <section>\n<h2>Test accuracy right after the cut, and in the end</h2>\n{}</section>\n\
         <section>\n<h2>Numbers</h2>\n<div class=\"scroll\" role=\"region\" aria-labelledby=\"table\" tabindex=\"0\">\n\
         <table>\n<caption id=\"table\">The same base, widths and learning rate for all. Accuracies are of the test images.\
         </caption>\n",
        bars(rows)
    );
    for (at, line) in cells.iter().enumerate() {
        let tag = if at == 0 { "th scope=\"col\"" } else { "td" };
        page += "<tr>";
        for (place, cell) in line.iter().enumerate() {
            let tag = if at > 0 && place == 0 { "th scope=\"row\"" } else { tag };
            let _ = write!(page, "<{tag}>{}</{}>", escape(cell), &tag[..2]);
        }
        page += "</tr>\n";
    }
    page += "</table>\n</div>\n</section>\n<section>\n<h2>Methods</h2>\n";
    page +=
        &definitions(rows.iter().filter_map(|row| Some((text(row, "method")?, escape(text(row, "paper")?)))));
    let _ = write!(
        page,
        "</section>\n<section>\n<h2>Command</h2>\n<p><code>{}</code></p>\n</section>\n",
        escape(command)
    );
    page + "</main>\n</body>\n</html>\n"
}

/// A pair of bars for each row: after the cut, thin, and in the end.
fn bars(rows: &[Value]) -> String {
    const LABEL: f64 = 110.0;
    const FULL: f64 = 420.0;
    const LINE: f64 = 34.0;
    let height = LINE * rows.len() as f64 + 8.0;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {} {height}\" role=\"img\" aria-label=\"Test accuracy of each method after the cut and in the end; \
         the numbers are in the table\" width=\"100%\" font-size=\"12\" fill=\"currentColor\">\n",
        LABEL + FULL + 70.0
    );
    for (at, row) in rows.iter().enumerate() {
        let top = LINE * at as f64 + 6.0;
        let _ = writeln!(
            svg,
            "<text x=\"0\" y=\"{}\">{}</text>",
            top + 14.0,
            escape(text(row, "method").unwrap_or("?"))
        );
        for (key, down, thick, opacity) in
            [("after_cut", 0.0, 8.0, 0.45), ("final_accuracy", 10.0, 12.0, 0.85)]
        {
            let Some(accuracy) = number(row, key) else { continue };
            let (width, y) = (FULL * accuracy.clamp(0.0, 1.0), top + down);
            let _ = writeln!(
                svg,
                "<rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{thick}\" opacity=\"{opacity}\"></rect>\
                 <text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LABEL + width + 6.0,
                y + thick - 0.5,
                percent(accuracy)
            );
        }
    }
    svg + "</svg>\n"
}

fn number(value: &Value, key: &str) -> Option<f64> {
    value[key].as_f64()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value[key].as_str().filter(|text| !text.is_empty())
}

/// What was trained on what.
fn title(report: &Value) -> String {
    match (text(report, "model"), text(report, "data")) {
        (Some(model), Some(data)) => format!("{} on {}", escape(model), escape(data)),
        (Some(name), None) | (None, Some(name)) => escape(name),
        (None, None) => "Training report".to_owned(),
    }
}

/// The one sentence of the page, and the numbers before and after.
fn heading(report: &Value, title: &str) -> String {
    let verdict = match (number(report, "argmax_agreement"), number(report, "samples")) {
        (Some(same), Some(all)) if same == all => ("good", "The cut changed no answer.".to_owned()),
        (Some(same), Some(all)) => {
            ("bad", format!("The cut changed {} of {} answers.", count(all - same), count(all)))
        }
        _ => match number(report, "base_accuracy") {
            Some(accuracy) => ("", format!("{} of the test images are told right.", percent(accuracy))),
            None => ("", "A run without a result yet.".to_owned()),
        },
    };
    let mut page = format!(
        "<header>\n<p class=\"eyebrow\">{title}</p>\n<h1 class=\"{}\">{}</h1>\n",
        verdict.0, verdict.1
    );
    page += "<div class=\"cards\">\n";
    let by_csgd = matches!(text(report, "method"), None | Some("csgd"));
    let trained = if by_csgd { "after C-SGD" } else { "before the cut" };
    let stages = [
        ("base_accuracy", "base"),
        ("wide_accuracy", trained),
        ("slim_accuracy", "cut"),
        ("finetuned_accuracy", "fine-tuned"),
    ];
    let known: Vec<_> = stages.iter().filter_map(|(key, name)| Some((name, number(report, key)?))).collect();
    if let (Some((_, first)), Some((_, last))) = (known.first(), known.last()) {
        let notes: Vec<String> = known.iter().map(|(name, x)| format!("{name} {}", percent(*x))).collect();
        page +=
            &card("Accuracy", &percent(*first), (known.len() > 1).then(|| percent(*last)), &notes.join(", "));
    }
    for (name, key, shown) in [
        ("Multiply-accumulates", "macs", count as fn(f64) -> String),
        ("Parameters", "params", count),
        ("Latency an image", "latency", milliseconds),
    ] {
        let key = |stage: &str| {
            if key == "latency" { format!("latency_{stage}_ms") } else { format!("{key}_{stage}") }
        };
        let before = number(report, &key("before")).or_else(|| number(report, key("").trim_end_matches('_')));
        let Some(before) = before else { continue };
        let after = number(report, &key("after"));
        let note = after.map_or_else(String::new, |after| change(before, after));
        page += &card(name, &shown(before), after.map(shown), &note);
    }
    page += "</div>\n</header>\n";
    page
}

fn card(name: &str, before: &str, after: Option<String>, note: &str) -> String {
    let numbers = match after {
        Some(after) => format!(
            "<span class=\"before\">{before}</span> <span aria-hidden=\"true\">&rarr;</span>\
             <span class=\"hidden\"> to </span> <span class=\"after\">{after}</span>"
        ),
        None => format!("<span class=\"after\">{before}</span>"),
    };
    format!(
        "<section class=\"card\"><h2>{name}</h2><p class=\"big\">{numbers}</p><p class=\"note\">{note}</p></section>\n"
    )
}

fn change(before: f64, after: f64) -> String {
    if before <= 0.0 || after == before {
        return String::new();
    }
    let direction = if after < before { "less" } else { "more" };
    format!("{} {direction}", percent((after / before - 1.0).abs()))
}

fn certificate(report: &Value) -> String {
    let certificate = &report["certificate"];
    let either = |key: &str| number(report, key).or_else(|| number(&certificate["cut"], key));
    let mut rows = Vec::new();
    if let (Some(same), Some(all)) = (either("argmax_agreement"), either("samples")) {
        rows.push(("Answers that agree", format!("{} of {}", count(same), count(all))));
    }
    if let Some(x) = either("max_abs_logit_diff") {
        rows.push(("Largest difference of a logit", scientific(x)));
    }
    if let Some(x) = either("max_rel_logit_diff") {
        rows.push(("The same over the largest logit", scientific(x)));
    }
    let deviations = report["layers"].as_array().into_iter().flatten();
    if let Some(most) = deviations.filter_map(|layer| number(layer, "max_abs_deviation")).reduce(f64::max) {
        rows.push(("Largest distance of a weight from its cluster's mean", scientific(most)));
    }
    let bytes = |key: &str| number(report, key).or_else(|| number(certificate, key));
    if let (Some(before), Some(after)) = (bytes("bytes_before"), bytes("bytes_after")) {
        rows.push(("Bytes", format!("{} to {}", count(before), count(after))));
    }
    if rows.is_empty() || number(report, "argmax_agreement").is_none() {
        return String::new();
    }
    let snapped = certificate["snap"].is_object();
    let what = if snapped {
        "The wide network, its clusters snapped to their means,"
    } else if matches!(text(report, "method"), None | Some("csgd")) {
        "The wide network, as C-SGD left it,"
    } else {
        "The wide network, as it was before filters were deleted,"
    };
    format!(
        "<section>\n<h2>Certificate</h2>\n<p>{what} against the one cut from it: the same images, the same device.</p>\n{}</section>\n",
        definitions(rows.iter().map(|(name, value)| (*name, escape(value))))
    )
}

fn definitions<'a>(rows: impl IntoIterator<Item = (&'a str, String)>) -> String {
    let mut list = "<dl>\n".to_owned();
    for (name, value) in rows {
        let _ = writeln!(list, "<div><dt>{}</dt><dd>{value}</dd></div>", escape(name));
    }
    list + "</dl>\n"
}

/// A line of the metrics, its steps counted over all phases.
struct Line<'a> {
    step: f64,
    value: &'a Value,
}

/// The lines, and where each phase begins.
fn timeline(metrics: &[Value]) -> (Vec<Line<'_>>, Vec<(f64, String)>) {
    let (mut lines, mut phases): (Vec<Line<'_>>, Vec<(f64, String)>) = (Vec::new(), Vec::new());
    let (mut start, mut last, mut phase) = (0.0, 0.0, None);
    for value in metrics {
        let Some(step) = number(value, "step") else { continue };
        let name = text(value, "phase").unwrap_or("train");
        if phase != Some(name) {
            (start, phase) = (last, Some(name));
            phases.push((start, if name == "csgd" { "C-SGD".to_owned() } else { name.to_owned() }));
        }
        last = start + step;
        lines.push(Line { step: last, value });
    }
    (lines, phases)
}

fn curves(report: &Value, metrics: &[Value]) -> String {
    let (lines, phases) = timeline(metrics);
    let is_epoch =
        |line: &&Line<'_>| !line.value["test_loss"].is_null() || !line.value["test_accuracy"].is_null();
    let points = |key: &str, epochs: bool| -> Vec<(f64, f64)> {
        let chosen = lines.iter().filter(|line| is_epoch(line) == epochs);
        chosen.filter_map(|line| Some((line.step, number(line.value, key)?))).collect()
    };
    // Where only epochs were logged, they are the training curve too.
    let training = |key: &str| {
        let fine = points(key, false);
        if fine.is_empty() { points(key, true) } else { fine }
    };
    let everywhere = |key: &str| -> Vec<(f64, f64)> {
        lines.iter().filter_map(|line| Some((line.step, number(line.value, key)?))).collect()
    };
    let deviation = everywhere("deviation");
    let last_step = lines.last().map_or(1.0, |line| line.step);
    let start = phases.iter().find(|(_, name)| name == "C-SGD").map_or(0.0, |(start, _)| *start);
    let chart = |id, title, description, unit, scale, series: Vec<Series>| {
        Chart { id, title, description, unit, scale, last_step, phases: &phases, series }.draw()
    };
    let series = |name, style, points| Series { name, style, points };
    let charts = [
        chart(
            "loss",
            "Loss",
            "Cross-entropy over the steps of training",
            "",
            Scale::Linear,
            vec![
                series("training", Style::Thin, training("loss")),
                series("test", Style::Strong, points("test_loss", true)),
            ],
        ),
        chart(
            "accuracy",
            "Accuracy",
            "Part of the images told right, over the steps of training",
            "%",
            Scale::Linear,
            vec![
                series("training", Style::Thin, hundredfold(training("accuracy"))),
                series("test", Style::Strong, hundredfold(points("test_accuracy", true))),
            ],
        ),
        chart(
            "deviation",
            "Deviation within clusters",
            "Sum of squared distances of the filters from the mean of their cluster, on a logarithmic scale",
            "",
            Scale::Logarithmic,
            vec![
                series("forecast", Style::Dashed, forecast(report, &deviation, start)),
                series("measured", Style::Strong, deviation),
            ],
        ),
        chart(
            "rate",
            "Learning rate",
            "Learning rate over the steps of training",
            "",
            Scale::Linear,
            vec![series("learning rate", Style::Strong, everywhere("lr"))],
        ),
    ]
    .concat();
    if charts.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>Training</h2>\n<div class=\"charts\">\n{charts}</div>\n</section>\n")
}

fn hundredfold(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.into_iter().map(|(step, part)| (step, 100.0 * part)).collect()
}

/// The forecast of the deviation: differences shrink by the curve's logarithm, their squares by twice that. It begins
/// where the first measurement says.
fn forecast(report: &Value, measured: &[(f64, f64)], start: f64) -> Vec<(f64, f64)> {
    let pairs = report["forecast"]["curve"].as_array().into_iter().flatten();
    let curve: Vec<(f64, f64)> =
        pairs.filter_map(|pair| Some((pair[0].as_f64()?, pair[1].as_f64()?))).collect();
    let Some(&(step, first)) = measured.iter().find(|(_, deviation)| *deviation > 0.0) else {
        return Vec::new();
    };
    let Some(at) = curve.iter().rev().find(|(at, _)| *at <= step - start).or(curve.first()) else {
        return Vec::new();
    };
    curve.iter().map(|(step, log)| (start + step, first * (2.0 * (log - at.1)).exp())).collect()
}

fn filters(png: &[u8]) -> String {
    format!(
        "<section>\n<h2>Filters</h2>\n<p>Each frame is a cluster, each column a filter: above before C-SGD, below after it. \
         Where the columns of a frame have become identical, all but one can go.</p>\n\
         <div class=\"sheet\"><img alt=\"Filters of the clustered convolutions by cluster, before and after C-SGD\" \
         src=\"data:image/png;base64,{}\"></div>\n</section>\n",
        base64(png)
    )
}

/// Columns of the layer table: heading, field, what it means.
const DEVIATIONS: &[(&str, &str)] = &[
    ("kernel", "deviation_kernel"),
    ("bias", "deviation_bias"),
    ("gamma", "deviation_gamma"),
    ("beta", "deviation_beta"),
    ("mean", "deviation_mean"),
    ("variance", "deviation_variance"),
    ("largest", "max_abs_deviation"),
];

fn layers(report: &Value) -> String {
    let Some(layers) = report["layers"].as_array().filter(|layers| !layers.is_empty()) else {
        return String::new();
    };
    let mut table = "<section>\n<h2>Layers</h2>\n<div class=\"scroll\" role=\"region\" aria-labelledby=\"layers\" tabindex=\"0\">\n\
         <table>\n<caption id=\"layers\">Widths and multiply-accumulates before and after the cut, and how far each tensor was \
         from collapsed: the sum of squared distances from the cluster's mean, last the largest single distance. A dash: \
         nothing there to merge.</caption>\n<thead>\n<tr><th scope=\"col\" rowspan=\"2\">Layer</th>\
         <th scope=\"col\" rowspan=\"2\">Operator</th><th scope=\"colgroup\" colspan=\"2\">Width</th>\
         <th scope=\"colgroup\" colspan=\"2\">MACs</th>"
        .to_owned();
    let _ =
        write!(table, "<th scope=\"colgroup\" colspan=\"{}\">Deviation</th></tr>\n<tr>", DEVIATIONS.len());
    for name in
        ["before", "after", "before", "after"].into_iter().chain(DEVIATIONS.iter().map(|(name, _)| *name))
    {
        let _ = write!(table, "<th scope=\"col\">{name}</th>");
    }
    table += "</tr>\n</thead>\n<tbody>\n";
    for layer in layers {
        let field = |key: &str| escape(text(layer, key).unwrap_or("-"));
        let _ = write!(table, "<tr><th scope=\"row\">{}</th><td>{}</td>", field("name"), field("op"));
        let narrower = number(layer, "width_after") < number(layer, "width_before");
        for key in ["width_before", "width_after", "macs_before", "macs_after"] {
            let shown = number(layer, key).filter(|&x| x > 0.0).map_or("-".to_owned(), count);
            let class = if narrower && key == "width_after" { "number cut" } else { "number" };
            let _ = write!(table, "<td class=\"{class}\">{shown}</td>");
        }
        let is_clustered = DEVIATIONS[..DEVIATIONS.len() - 1].iter().any(|(_, key)| layer[*key].is_number());
        for (_, key) in DEVIATIONS {
            let shown = number(layer, key).filter(|_| is_clustered).map_or("-".to_owned(), scientific);
            let _ = write!(table, "<td class=\"number\">{shown}</td>");
        }
        table += "</tr>\n";
    }
    table + "</tbody>\n</table>\n</div>\n</section>\n"
}

fn run(report: &Value) -> String {
    let device = &report["device"];
    let mut rows = Vec::new();
    if let Some(command) = text(report, "command") {
        rows.push(("Command", format!("<code>{}</code>", escape(command))));
    }
    if let Some(name) = text(device, "name") {
        let mut facts: Vec<&str> =
            ["kind", "backend", "driver"].into_iter().filter_map(|key| text(device, key)).collect();
        facts.dedup();
        rows.push(("Device", format!("{} ({})", escape(name), escape(&facts.join(", ")))));
    }
    if let Some(reason) = text(device, "reason") {
        rows.push(("Why this device", escape(reason)));
    }
    if let Some(seed) = report["seed"].as_u64() {
        rows.push(("Seed", seed.to_string()));
    }
    if let Some(seconds) = number(report, "seconds") {
        rows.push(("Time", duration(seconds)));
    }
    if let Some(version) = text(report, "version") {
        rows.push(("Version", escape(version)));
    }
    let rest: serde_json::Map<String, Value> = report
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !SHOWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut page = format!("<section>\n<h2>Run</h2>\n{}", definitions(rows));
    if !rest.is_empty() {
        let rest = serde_json::to_string_pretty(&rest).unwrap_or_default();
        let _ = writeln!(
            page,
            "<details><summary>All settings and numbers</summary><pre>{}</pre></details>",
            escape(&rest)
        );
    }
    page + "</section>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn full() -> (Value, Vec<Value>) {
        let layer = |name: &str, op: &str, wide: u64, slim: u64, chi: Value| {
            json!({
                "name": name, "op": op, "width_before": wide, "width_after": slim,
                "macs_before": wide * 147_456, "macs_after": slim * 92_160,
                "deviation_kernel": chi, "deviation_bias": null, "deviation_gamma": chi, "deviation_beta": chi,
                "deviation_mean": chi, "deviation_variance": chi, "max_abs_deviation": 2.1e-9,
            })
        };
        let curve: Vec<Value> = (0..=100).map(|i| json!([i * 30, -0.2 * f64::from(i)])).collect();
        let report = json!({
            "model": "resnet20", "data": "embedded", "command": "centripetal demo --out <run>",
            "base_accuracy": 0.8975, "wide_accuracy": 0.893, "slim_accuracy": 0.893,
            "argmax_agreement": 1000, "samples": 1000, "max_abs_logit_diff": 4.2e-6, "max_rel_logit_diff": 3.1e-7,
            "macs_before": 41_214_464, "macs_after": 16_384_000, "params_before": 272_186, "params_after": 108_410,
            "bytes_before": 1_100_000, "bytes_after": 440_000,
            "latency_before_ms": 1.42, "latency_after_ms": 0.61, "seed": 7, "seconds": 132.4,
            "device": {"kind": "cpu", "name": "CPU", "backend": "cpu", "driver": "AVX2, 2 threads",
                       "reason": "no hardware GPU found"},
            "layers": [layer("conv1", "Conv2d", 16, 10, json!(3.1e-13)), layer("layer1.0.conv1", "Conv2d", 16, 10, json!(0.0)),
                       layer("fc", "Linear", 10, 10, Value::Null)],
            "forecast": {"curve": curve, "log_shrink": -20.0}, "epochs": 12, "version": "0.1.0",
        });
        let mut metrics = Vec::new();
        for (phase, steps) in [("train", 2000), ("csgd", 3000)] {
            for step in (50..=steps).step_by(50) {
                let t = f64::from(step) / f64::from(steps);
                let jitter = f64::from(step * 37 % 100) / 1000.0;
                let late = if phase == "csgd" { 1.0 } else { 0.0 };
                let loss = 2.2 * (-3.0 * t).exp() * (1.0 - late) + 0.28 + 0.15 * (1.0 - t) * late;
                let mut line = json!({
                    "phase": phase, "epoch": step / 500, "step": step, "lr": 0.05 * (1.0 - t) + 0.001,
                    "loss": loss + jitter, "accuracy": 0.93 - loss / 4.0 - jitter / 3.0, "deviation": null,
                    "images_per_second": 900.0, "seconds": step,
                });
                if phase == "csgd" {
                    line["deviation"] = json!(80.0 * (-0.2 * 2.0 * f64::from(step) / 30.0).exp() + 1e-13);
                }
                if step % 500 == 0 {
                    line["test_loss"] = json!(loss + 0.06);
                    line["test_accuracy"] = json!(0.91 - loss / 4.0);
                }
                metrics.push(line);
            }
        }
        (report, metrics)
    }

    /// Every element closed, in order: what a parser would not forgive in XML.
    fn is_balanced(page: &str) -> bool {
        let mut open = Vec::new();
        for tag in page.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(tag, _)| tag) {
            let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
            if tag.starts_with('!') || tag.ends_with('/') || ["meta", "img"].contains(&name) {
                continue;
            }
            if !tag.starts_with('/') {
                open.push(name);
            } else if open.pop() != Some(name) {
                return false;
            }
        }
        open.is_empty()
    }

    #[test]
    fn a_full_report_shows_all_of_it() {
        let (report, metrics) = full();
        let page = render(&report, &metrics, Some(b"png"));
        for part in [
            "The cut changed no answer.",
            "89.75 %",
            "41.2 M",
            "1000 of 1000",
            "layer1.0.conv1",
            "centripetal demo --out &lt;run&gt;",
            "data:image/png;base64,cG5n",
            "id=\"deviation-title\"",
            "forecast",
            "AVX2, 2 threads",
            "2 min 12 s",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(is_balanced(&page));
    }

    #[test]
    fn nothing_is_loaded_or_run() {
        let (mut report, metrics) = full();
        let hostile = "<script src=\"https://example.org/x.js\">'\"&</script>";
        for key in ["model", "data", "command", "version"] {
            report[key] = json!(hostile);
        }
        report["layers"][0]["name"] = json!(hostile);
        report["device"]["name"] = json!(hostile);
        report[hostile] = json!(hostile);
        let mut metrics = metrics;
        metrics[3]["phase"] = json!(hostile);
        let page = render(&report, &metrics, None);
        assert!(!page.contains("<script") && !page.contains("src=\"http") && !page.contains("url("));
        assert!(is_balanced(&page));
    }

    #[test]
    fn missing_fields_break_nothing() {
        let (report, metrics) = full();
        for broken in [
            json!({}),
            json!(null),
            json!([1]),
            json!({"layers": [{}], "device": 3, "forecast": {"curve": [[1]]}}),
        ] {
            assert!(is_balanced(&render(&broken, &metrics, None)));
            assert!(is_balanced(&render(&broken, &[json!({}), json!(3), json!({"step": 1})], None)));
        }
        for key in report.as_object().expect("an object").keys() {
            let mut report = report.clone();
            report[key] = Value::Null;
            assert!(is_balanced(&render(&report, &[], None)), "{key}");
        }
    }

    #[test]
    fn a_changed_answer_is_said_first() {
        let (mut report, _) = full();
        report["argmax_agreement"] = json!(997);
        assert!(render(&report, &[], None).contains("The cut changed 3 of 1000 answers."));
    }

    #[test]
    fn base_training_has_no_certificate() {
        let report = json!({"phase": "train", "base_accuracy": 0.9, "samples": 1000, "macs": 5_000_000, "params": 1234});
        let page = render(&report, &[], None);
        assert!(page.contains("90.00 %") && page.contains("5.00 M"), "{page}");
        assert!(!page.contains("Certificate"));
    }

    #[test]
    fn the_second_phase_follows_the_first() {
        let (_, metrics) = full();
        let (lines, phases) = timeline(&metrics);
        assert_eq!(phases, [(0.0, "train".to_owned()), (2000.0, "C-SGD".to_owned())]);
        assert_eq!(lines.last().map(|line| line.step), Some(5000.0));
    }

    #[test]
    fn the_forecast_meets_the_first_measurement() {
        let report = json!({"forecast": {"curve": [[0, 0.0], [10, -1.0], [20, -3.0]]}});
        let points = forecast(&report, &[(110.0, 8.0)], 100.0);
        assert_eq!(points[1], (110.0, 8.0));
        assert!((points[0].1 / 8.0 - 2.0f64.exp()).abs() < 1e-12);
        assert!((points[2].1 / 8.0 - (-4.0f64).exp()).abs() < 1e-12);
    }
}
