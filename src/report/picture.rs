//! The frontier of a study as a picture.
//!
//! Two axes are one panel. Of three axes (or more) the first two each have a panel over the last
//! one, and numbers say which points belong together.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::study::StudyReport;
use crate::search::pareto::{self, ParetoPoint, Retest};
use crate::search::{Better, MetricName};

/// Width of a panel, height of all, and height of the title with the key, in pixels.
const WIDTH: u32 = 960;
const WIDTH_OF_TWO: u32 = 720;
const HEIGHT: u32 = 640;
const HEAD: u32 = 76;
const INK: RGBColor = RGBColor(40, 40, 40);
const FRONT: RGBColor = RGBColor(0, 90, 160);
const STAIRS: RGBColor = RGBColor(150, 190, 220);
const FEASIBLE: RGBColor = RGBColor(160, 195, 225);
const INFEASIBLE: RGBColor = RGBColor(215, 215, 215);
const FALLEN: RGBColor = RGBColor(190, 30, 30);
const MARKED: RGBColor = RGBColor(200, 70, 20);
/// More points than this have no room for their numbers.
const NUMBERED_MAX: usize = 24;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Two axes of the frontier, by index, and what of them is shown.
struct Panel {
    axes: [usize; 2],
    window: [(f64, f64); 2],
}

impl StudyReport<'_> {
    /// `pareto.svg`: the stable trials, the frontier of the feasible ones with the intervals of
    /// what met fresh seeds, what fell off, the knee and the winner; `None` without a feasible
    /// trial.
    pub fn pareto_svg(&self) -> Option<String> {
        let points = self.state.pareto(self.space);
        let last = self.space.pareto.len().checked_sub(1)?;
        let pairs = if last == 1 { vec![[0, 1]] } else { vec![[0, last], [1, last]] };
        let panels = pairs.into_iter().map(|axes| {
            let window = [window(&points, axes[0])?, window(&points, axes[1])?];
            Some(Panel { axes, window })
        });
        let panels = panels.collect::<Option<Vec<Panel>>>()?;
        let mut text = String::new();
        self.draw(&mut text, &points, &panels).ok()?;
        Some(text)
    }

    fn draw(&self, text: &mut String, points: &[ParetoPoint], panels: &[Panel]) -> Drawn {
        let width = if panels.len() == 1 { WIDTH } else { WIDTH_OF_TWO * panels.len() as u32 };
        let root = SVGBackend::with_string(text, (width, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD);
        let title = format!("{}: what is feasible, and its frontier", self.space.name);
        head.draw(&Text::new(title, (20, 16), ("sans-serif", 20).into_font().color(&INK)))?;
        key(&head)?;
        for (area, panel) in body.split_evenly((1, panels.len())).iter().zip(panels) {
            self.draw_panel(area, points, panel, panels.len() > 1)?;
        }
        root.present()?;
        Ok(())
    }

    fn draw_panel(
        &self,
        area: &Area<'_>,
        points: &[ParetoPoint],
        panel: &Panel,
        numbered: bool,
    ) -> Drawn {
        let [across, up] = panel.window;
        let [x, y] = panel.axes.map(|axis| &self.space.pareto[axis]);
        let mut chart = ChartBuilder::on(area)
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(84)
            .build_cartesian_2d(across.0..across.1, up.0..up.1)?;
        let label = ("sans-serif", 14).into_font().color(&INK);
        chart
            .configure_mesh()
            .x_desc(described(x))
            .y_desc(described(y))
            .label_style(label)
            .light_line_style(WHITE)
            .draw()?;
        let at = |values: &[f64]| (values[panel.axes[0]], values[panel.axes[1]]);
        let inside =
            |(a, b): (f64, f64)| (across.0..=across.1).contains(&a) && (up.0..=up.1).contains(&b);
        let front: Vec<&ParetoPoint> = points.iter().filter(|p| p.is_on_frontier()).collect();
        for point in points.iter().filter(|p| !p.is_on_frontier() && inside(at(&p.values))) {
            let colour = if point.feasible { FEASIBLE } else { INFEASIBLE };
            chart.draw_series([Circle::new(at(&point.values), 3, colour.filled())])?;
        }
        // Off the plane of three axes points lie on no stairs.
        if !numbered {
            let steps = stairs(&front.iter().map(|p| at(&p.values)).collect::<Vec<_>>());
            chart.draw_series(LineSeries::new(steps, STAIRS.stroke_width(2)))?;
        }
        for fallen in points.iter().filter(|p| p.retest == Retest::Fallen) {
            if inside(at(&fallen.searched)) {
                chart.draw_series([Cross::new(at(&fallen.searched), 5, FALLEN.stroke_width(2))])?;
            }
        }
        for point in &front {
            let place = at(&point.values);
            for bar in bars(point, panel) {
                let ends = bar.map(|end| Circle::new(end, 2, FRONT.filled()));
                chart.draw_series(ends)?;
                chart.draw_series(LineSeries::new(bar, FRONT.stroke_width(1)))?;
            }
            let fill = if point.retest == Retest::Kept { FRONT } else { WHITE };
            chart.draw_series([Circle::new(place, 5, fill.filled())])?;
            chart.draw_series([Circle::new(place, 5, FRONT.stroke_width(2))])?;
            if numbered && front.len() <= NUMBERED_MAX {
                let style = ("sans-serif", 12).into_font().color(&INK);
                let number = Text::new(point.trial.to_string(), (7, 4), style);
                chart.draw_series([EmptyElement::at(place) + number])?;
            }
        }
        let knee = pareto::knee(self.space, points).map(|trial| (trial, "knee"));
        let winner = self.state.winner.map(|trial| (trial, "winner"));
        for ((trial, name), rise) in [knee, winner].into_iter().flatten().zip([18, 34]) {
            let Some(point) = points.iter().find(|point| point.trial == trial) else { continue };
            let place = at(&point.values);
            let words = format!("{name}: trial {trial}");
            let style = ("sans-serif", 14).into_font().color(&MARKED);
            chart.draw_series([Circle::new(place, 9, MARKED.stroke_width(2))])?;
            chart.draw_series([EmptyElement::at(place) + Text::new(words, (10, -rise), style)])?;
        }
        Ok(())
    }
}

/// What the symbols mean.
fn key(head: &Area<'_>) -> Drawn {
    let style = ("sans-serif", 14).into_font().color(&INK);
    let words = [
        "re-tested, 95 % interval",
        "frontier, not re-tested",
        "failed re-test",
        "off it, feasible in the search",
        "not feasible",
    ];
    let mut left = 28;
    for (index, words) in words.into_iter().enumerate() {
        let at = (left, 56);
        match index {
            0 => {
                let ends = [(left - 10, 56), (left + 10, 56)];
                head.draw(&PathElement::new(ends.to_vec(), FRONT.stroke_width(1)))?;
                for end in ends {
                    head.draw(&Circle::new(end, 2, FRONT.filled()))?;
                }
                head.draw(&Circle::new(at, 5, FRONT.filled()))?;
            }
            1 => head.draw(&Circle::new(at, 5, FRONT.stroke_width(2)))?,
            2 => head.draw(&Cross::new(at, 5, FALLEN.stroke_width(2)))?,
            3 => head.draw(&Circle::new(at, 3, FEASIBLE.filled()))?,
            _ => head.draw(&Circle::new(at, 3, INFEASIBLE.filled()))?,
        }
        head.draw(&Text::new(words, (left + 14, 49), style.clone()))?;
        left += 44 + 6 * i32::try_from(words.len()).expect("a few words");
    }
    Ok(())
}

/// The intervals of a point along both axes of `panel`, within what is shown.
fn bars(point: &ParetoPoint, panel: &Panel) -> Vec<[(f64, f64); 2]> {
    if point.intervals.is_empty() {
        return Vec::new();
    }
    let [x, y] = panel.axes;
    let [across, up] = panel.window;
    let (along, above) = (point.intervals[x], point.intervals[y]);
    let bars = [
        [along.low, along.high].map(|end| (end.clamp(across.0, across.1), point.values[y])),
        [above.low, above.high].map(|end| (point.values[x], end.clamp(up.0, up.1))),
    ];
    // What does not depend on seeds has no interval to show.
    let differs = |[from, to]: &[(f64, f64); 2]| {
        (to.0 - from.0) > 1e-9 * to.0.abs() || (to.1 - from.1) > 1e-9 * to.1.abs()
    };
    bars.into_iter().filter(differs).collect()
}

/// What an axis shows, and where it is good.
fn described(axis: &MetricName) -> String {
    let better = if axis.better() == Better::Lower { "lower" } else { "higher" };
    format!("{axis} ({better} is better)")
}

/// The part of an axis that holds the feasible trials and the intervals of the frontier, with some
/// air around them.
fn window(points: &[ParetoPoint], axis: usize) -> Option<(f64, f64)> {
    let feasible = points.iter().filter(|point| point.feasible);
    let values = feasible.flat_map(|point| {
        let interval = point.intervals.get(axis).filter(|_| point.is_on_frontier());
        let ends = interval.map(|interval| [interval.low, interval.high]);
        std::iter::once(point.values[axis]).chain(ends.into_iter().flatten())
    });
    let values: Vec<f64> = values.collect();
    let low = values.iter().copied().reduce(f64::min)?;
    let high = values.iter().copied().reduce(f64::max)?;
    let air = (0.08 * (high - low)).max(0.02 * high.abs()).max(1e-9);
    Some((low - air, high + air))
}

/// The corners of the steps between points of a frontier: what lies between two is not promised.
fn stairs(front: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let corners = front.windows(2).flat_map(|pair| [pair[0], (pair[1].0, pair[0].1)]);
    corners.chain(front.last().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frontier_is_drawn_in_steps() {
        let steps = stairs(&[(1.0, 9.0), (2.0, 5.0), (4.0, 4.0)]);
        assert_eq!(steps, [(1.0, 9.0), (2.0, 9.0), (2.0, 5.0), (4.0, 5.0), (4.0, 4.0)]);
        assert_eq!(stairs(&[]), []);
    }

    fn point(feasible: bool, value: f64, interval: Option<(f64, f64)>) -> ParetoPoint {
        let interval =
            interval.map(|(low, high)| crate::base::stats::Interval { mean: value, low, high });
        ParetoPoint {
            trial: 0,
            values: vec![value],
            searched: vec![value],
            fresh_seeds: 0,
            retest: if interval.is_some() { Retest::Kept } else { Retest::Untested },
            intervals: interval.into_iter().collect(),
            dominated: false,
            feasible,
        }
    }

    #[test]
    fn the_window_holds_what_is_feasible_even_where_it_is_a_single_point() {
        let shown = window(&[point(true, 5.0, None), point(false, 1e9, None)], 0).expect("one");
        assert!(shown.0 < 5.0 && shown.1 > 5.0 && shown.1 < 10.0);
        assert_eq!(window(&[point(false, 1.0, None)], 0), None);
    }

    #[test]
    fn the_window_holds_the_intervals_of_the_frontier() {
        let shown = window(&[point(true, 5.0, Some((2.0, 8.0)))], 0).expect("one");
        assert!(shown.0 < 2.0 && shown.1 > 8.0, "{shown:?}");
    }
}
