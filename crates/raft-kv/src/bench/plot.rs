//! # The figures as a picture
//!
//! An SVG of three panels: requests per second, latency, and how the latency of
//! the largest phase is distributed. It has a background of its own and follows
//! the reader's light or dark theme, and no font or script of its own.
//!
//! Latencies are on a logarithmic scale, since the tail is what matters.

use std::fmt::{self, Display, Write};

use super::report::{BenchReport, PhaseReport};
use super::scale::{Scale, count_of, logarithm, thousands};

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 400.0;
/// Where panels begin and end, from the top.
const TOP: f64 = 104.0;
const BOTTOM: f64 = 330.0;
const PANEL_WIDTH: f64 = 262.0;
const PANEL_STARTS: [f64; 3] = [58.0, 384.0, 706.0];

/// Colours go round if there are more workloads.
const COLOURS: usize = 3;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#57606a}\
.title{font-size:17px;font-weight:600;fill:#1f2328}\
.panel{font-size:13px;font-weight:600;fill:#1f2328}\
.value{font-size:11px;fill:#1f2328}\
.note{paint-order:stroke;stroke:#ffffff;stroke-width:4px}\
.card{fill:#ffffff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}\
.disk{stroke:#8c959f;stroke-dasharray:5 4}\
.fill0{fill:#2563eb}.fill1{fill:#d97706}.fill2{fill:#059669}\
.line0{stroke:#2563eb}.line1{stroke:#d97706}.line2{stroke:#059669}\
.line0,.line1,.line2{stroke-width:2;fill:none;stroke-linejoin:round}\
.open{fill:#ffffff}\
@media(prefers-color-scheme:dark){\
text{fill:#9198a1}.title,.panel,.value{fill:#f0f6fc}\
.card{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#656c76}\
.disk{stroke:#9198a1}\
.fill0{fill:#60a5fa}.fill1{fill:#fbbf24}.fill2{fill:#34d399}\
.line0{stroke:#60a5fa}.line1{stroke:#fbbf24}.line2{stroke:#34d399}\
.open{fill:#0d1117}.note{stroke:#0d1117}}";

impl BenchReport {
    /// The figures as a picture.
    pub fn to_svg(&self) -> String {
        Plot::of(self).to_string()
    }
}

/// A report that displays as SVG.
struct Plot<'a> {
    report: &'a BenchReport,
    /// Each workload once, in the order in which they ran.
    workloads: Vec<&'a str>,
    /// Each number of clients once, in the order in which they ran.
    clients: Vec<usize>,
}

/// How high in a panel a figure is.
fn height(scale: &Scale, figure: f64) -> f64 {
    BOTTOM - scale.part(figure) * (BOTTOM - TOP)
}

impl<'a> Plot<'a> {
    fn of(report: &'a BenchReport) -> Self {
        let mut workloads: Vec<&str> = Vec::new();
        let mut clients = Vec::new();
        for phase in &report.phases {
            if !workloads.contains(&phase.workload.as_str()) {
                workloads.push(&phase.workload);
            }
            if !clients.contains(&phase.clients) {
                clients.push(phase.clients);
            }
        }
        Self {
            report,
            workloads,
            clients,
        }
    }

    /// The phases, each with the number of its workload.
    fn phases(&self, clients: usize) -> impl Iterator<Item = (usize, &PhaseReport)> {
        let phases = self.report.phases.iter();
        phases
            .filter(move |phase| phase.clients == clients)
            .filter_map(|phase| {
                let workload = self
                    .workloads
                    .iter()
                    .position(|name| *name == phase.workload);
                workload.map(|workload| (workload, phase))
            })
    }

    fn heading(&self, out: &mut String) -> fmt::Result {
        let report = self.report;
        let nodes = match report.nodes_started {
            Some(3) => "three nodes, every write synced on a quorum".to_owned(),
            Some(nodes) => format!("nodes: {nodes}, every write synced on a quorum"),
            None => "servers that ran already".to_owned(),
        };
        write!(
            out,
            "<text class='title' x='24' y='34'>raft-kv: {nodes}</text>\
             <text x='24' y='55'>clients of {}; values of {} bytes; {} keys; {}</text>",
            report.entrance,
            report.value_bytes,
            report.keys,
            report.at_once()
        )?;
        for (number, workload) in self.workloads.iter().enumerate() {
            let x = WIDTH - 24.0 - 92.0 * count_of(self.workloads.len() - number);
            write!(
                out,
                "<rect class='fill{}' x='{x:.0}' y='24' width='12' height='12' rx='2'/>\
                 <text x='{:.0}' y='34'>{workload}</text>",
                number % COLOURS,
                x + 18.0
            )?;
        }
        Ok(())
    }

    /// The title of a panel, its lines and their labels.
    fn panel(
        out: &mut String,
        start: f64,
        title: &str,
        scale: &Scale,
        label: impl Fn(f64) -> String,
    ) -> fmt::Result {
        write!(
            out,
            "<text class='panel' x='{start:.0}' y='86'>{title}</text>"
        )?;
        let end = start + PANEL_WIDTH;
        for &tick in &scale.ticks {
            let y = height(scale, tick);
            write!(
                out,
                "<line class='grid' x1='{start:.0}' x2='{end:.0}' y1='{y:.1}' y2='{y:.1}'/>\
                 <text x='{:.0}' y='{:.1}' text-anchor='end'>{}</text>",
                start - 8.0,
                y + 4.0,
                label(tick)
            )?;
        }
        write!(
            out,
            "<line class='axis' x1='{start:.0}' x2='{end:.0}' y1='{BOTTOM:.0}' y2='{BOTTOM:.0}'/>"
        )
    }

    /// Says how many clients a group of columns is of.
    fn below_group(
        &self,
        out: &mut String,
        start: f64,
        group: usize,
        clients: usize,
    ) -> fmt::Result {
        let last = self.workloads.len() - 1;
        let (left, right) = (self.place(start, group, 0), self.place(start, group, last));
        Self::below(out, left.midpoint(right), clients)
    }

    fn below(out: &mut String, x: f64, text: impl Display) -> fmt::Result {
        let y = BOTTOM + 19.0;
        write!(
            out,
            "<text x='{x:.1}' y='{y:.0}' text-anchor='middle'>{text}</text>"
        )
    }

    fn caption(out: &mut String, start: f64, text: &str) -> fmt::Result {
        let (x, y) = (start + PANEL_WIDTH / 2.0, BOTTOM + 39.0);
        write!(
            out,
            "<text x='{x:.1}' y='{y:.0}' text-anchor='middle'>{text}</text>"
        )
    }

    /// The middle of a workload's place, for a number of clients.
    fn place(&self, start: f64, clients: usize, workload: usize) -> f64 {
        let group = PANEL_WIDTH / count_of(self.clients.len());
        let slot = self.slot_width();
        let middle = (count_of(self.workloads.len()) - 1.0) / 2.0;
        start + group * (count_of(clients) + 0.5) + slot * (count_of(workload) - middle)
    }

    fn slot_width(&self) -> f64 {
        let group = PANEL_WIDTH / count_of(self.clients.len());
        (group * 0.8 / count_of(self.workloads.len())).min(56.0)
    }

    fn throughput(&self, out: &mut String) -> fmt::Result {
        let start = PANEL_STARTS[0];
        let most = self.report.phases.iter().map(|phase| phase.requests_per_s);
        let scale = Scale::linear(most.fold(0.0, f64::max));
        Self::panel(out, start, "Requests per second", &scale, thousands)?;
        for (group, &clients) in self.clients.iter().enumerate() {
            for (workload, phase) in self.phases(clients) {
                let (middle, width) = (self.place(start, group, workload), self.slot_width());
                let y = height(&scale, phase.requests_per_s);
                write!(
                    out,
                    "<rect class='fill{}' x='{:.1}' y='{y:.1}' width='{:.1}' height='{:.1}' rx='2'/>\
                     <text class='value' x='{middle:.1}' y='{:.1}' text-anchor='middle'>{}</text>",
                    workload % COLOURS,
                    middle - width * 0.44,
                    width * 0.88,
                    BOTTOM - y,
                    y - 5.0,
                    thousands(phase.requests_per_s)
                )?;
            }
            self.below_group(out, start, group, clients)?;
        }
        Self::caption(out, start, "clients")
    }

    fn latency_scale(&self) -> Scale {
        let phases = &self.report.phases;
        let least = phases.iter().map(|phase| phase.p50_us);
        let least = least.chain(self.report.disk.as_ref().map(|disk| disk.p50_us));
        let most = phases
            .iter()
            .flat_map(|phase| [phase.p99_us, last_us(phase)]);
        Scale::logarithmic(
            ms(least.min().unwrap_or(1)) * 0.8,
            ms(most.max().unwrap_or(1)) * 1.05,
        )
    }

    fn latency(&self, out: &mut String, scale: &Scale) -> fmt::Result {
        let start = PANEL_STARTS[1];
        Self::panel(out, start, "Latency in ms: p50 ●, p99 ○", scale, logarithm)?;
        for (group, &clients) in self.clients.iter().enumerate() {
            for (workload, phase) in self.phases(clients) {
                let x = self.place(start, group, workload);
                let colour = workload % COLOURS;
                let half = height(scale, ms(phase.p50_us).log10());
                let tail = height(scale, ms(phase.p99_us).log10());
                write!(
                    out,
                    "<line class='line{colour}' x1='{x:.1}' x2='{x:.1}' y1='{half:.1}' y2='{tail:.1}'/>\
                     <circle class='fill{colour}' cx='{x:.1}' cy='{half:.1}' r='5'/>\
                     <circle class='line{colour} open' cx='{x:.1}' cy='{tail:.1}' r='4'/>"
                )?;
            }
            self.below_group(out, start, group, clients)?;
        }
        if let Some(disk) = &self.report.disk {
            let y = height(scale, ms(disk.p50_us).log10());
            write!(
                out,
                "<line class='disk' x1='{start:.0}' x2='{:.0}' y1='{y:.1}' y2='{y:.1}'/>\
                 <text class='note' x='{:.0}' y='{:.1}' text-anchor='end'>one sync of the disk, p50</text>",
                start + PANEL_WIDTH,
                start + PANEL_WIDTH,
                y + 14.0
            )?;
        }
        Self::caption(out, start, "clients")
    }

    fn distribution(&self, out: &mut String, scale: &Scale) -> fmt::Result {
        let start = PANEL_STARTS[2];
        let clients = self.clients.iter().copied().max().unwrap_or(1);
        let title = format!("Latency in ms, with {clients} clients");
        Self::panel(out, start, &title, scale, logarithm)?;
        // Each step to the right is ten times rarer.
        let x = |percentile: f64| {
            let rarity = -(1.0 - percentile / 100.0).log10();
            start + PANEL_WIDTH * rarity / 4.0
        };
        for percentile in [0.0, 90.0, 99.0, 99.9, 99.99] {
            let at = x(percentile);
            write!(
                out,
                "<line class='grid' x1='{at:.1}' x2='{at:.1}' y1='{TOP:.0}' y2='{BOTTOM:.0}'/>"
            )?;
            Self::below(out, at, percentile)?;
        }
        for (workload, phase) in self.phases(clients) {
            let points: Vec<String> = phase
                .percentiles
                .iter()
                .map(|row| {
                    let y = height(scale, ms(row.us).log10());
                    format!("{:.1},{y:.1}", x(row.percentile))
                })
                .collect();
            write!(
                out,
                "<polyline class='line{}' points='{}'/>",
                workload % COLOURS,
                points.join(" ")
            )?;
        }
        Self::caption(out, start, "of 100 requests, so many stayed within")
    }
}

impl Display for Plot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        write!(
            out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' \
             width='{WIDTH}' height='{HEIGHT}' role='img' \
             aria-label='throughput and latency of raft-kv'>\
             <style>{STYLE}</style>\
             <rect class='card' x='.5' y='.5' width='{}' height='{}' rx='8'/>",
            WIDTH - 1.0,
            HEIGHT - 1.0
        )?;
        self.heading(&mut out)?;
        if !self.report.phases.is_empty() {
            let scale = self.latency_scale();
            self.throughput(&mut out)?;
            self.latency(&mut out, &scale)?;
            self.distribution(&mut out, &scale)?;
        }
        writeln!(out, "</svg>")?;
        // One element a line, so that a change of a figure is a small change.
        f.write_str(&out.replace("><", ">\n<"))
    }
}

fn last_us(phase: &PhaseReport) -> u64 {
    phase.percentiles.last().map_or(0, |row| row.us)
}

/// Milliseconds, of at least one microsecond: a logarithm needs something.
#[expect(
    clippy::cast_precision_loss,
    reason = "a place in a picture needs no 53 bits"
)]
fn ms(us: u64) -> f64 {
    us.max(1) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{DiskReport, PercentileRow};

    fn phase(workload: &str, clients: usize, requests_per_s: f64, p50_us: u64) -> PhaseReport {
        PhaseReport {
            workload: workload.to_owned(),
            reads_percent: 0,
            clients,
            seconds: 1.0,
            requests: 1000,
            errors: 0,
            broken_connections: 0,
            requests_per_s,
            min_us: p50_us / 2,
            p50_us,
            p90_us: p50_us * 2,
            p99_us: p50_us * 4,
            p999_us: p50_us * 8,
            max_us: p50_us * 9,
            percentiles: [(0.0, p50_us / 2), (50.0, p50_us), (99.99, p50_us * 8)]
                .map(|(percentile, us)| PercentileRow { percentile, us })
                .to_vec(),
            histogram: Vec::new(),
        }
    }

    fn report(phases: Vec<PhaseReport>) -> BenchReport {
        BenchReport {
            entrance: "the leader of three nodes".to_owned(),
            nodes_started: Some(3),
            value_bytes: 256,
            keys: 10,
            pipeline: 1,
            disk: Some(DiskReport {
                write_bytes: 256,
                syncs: 10,
                p50_us: 100,
                p99_us: 200,
            }),
            phases,
        }
    }

    fn heights(svg: &str) -> Vec<f64> {
        svg.lines()
            .filter(|line| line.starts_with("<rect class='fill") && line.contains("rx='2'"))
            // The legend's are squares of 12.
            .filter(|line| !line.contains("height='12'"))
            .filter_map(|line| {
                line.split("height='")
                    .nth(1)?
                    .split('\'')
                    .next()?
                    .parse()
                    .ok()
            })
            .collect()
    }

    #[test]
    fn bars_are_as_high_as_their_figures() {
        let phases = vec![
            phase("SET", 1, 25_000.0, 300),
            phase("GET", 1, 100_000.0, 200),
        ];
        let heights = heights(&report(phases).to_svg());
        assert_eq!(heights.len(), 2);
        assert!((heights[1] / heights[0] - 4.0).abs() < 0.02, "{heights:?}");
    }

    #[test]
    fn every_figure_is_in_the_picture() {
        let phases = vec![
            phase("SET", 1, 2_500.0, 300),
            phase("GET", 1, 9_000.0, 100),
            phase("SET", 256, 61_234.0, 3000),
            phase("GET", 256, 91_234.0, 2000),
        ];
        let svg = report(phases).to_svg();
        for text in [
            ">2.5k<", ">9.0k<", ">61k<", ">91k<", ">1<", ">256<", ">SET<", ">GET<",
        ] {
            assert!(svg.contains(text), "{text} is missing in\n{svg}");
        }
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 8);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn the_title_claims_nothing_of_servers_that_ran_already() {
        let mut report = report(vec![phase("SET", 1, 2_500.0, 300)]);
        assert!(
            report
                .to_svg()
                .contains(">raft-kv: three nodes, every write synced")
        );
        report.nodes_started = None;
        assert!(!report.to_svg().contains("synced on a quorum"));
    }

    #[test]
    fn a_report_of_nothing_is_a_picture_of_nothing() {
        let svg = report(Vec::new()).to_svg();
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n"),
            "{svg}"
        );
    }
}
