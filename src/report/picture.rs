//! The frontier of a study as a picture.

use plotters::prelude::*;

use super::study::StudyReport;
use crate::search::pareto::{self, ParetoPoint};
use crate::search::{Better, MetricName};

/// Width and height in pixels.
const SIZE: (u32, u32) = (960, 600);
const INK: RGBColor = RGBColor(40, 40, 40);
const FRONT: RGBColor = RGBColor(0, 90, 160);
const FEASIBLE: RGBColor = RGBColor(120, 170, 215);
const INFEASIBLE: RGBColor = RGBColor(205, 205, 205);
const MARKED: RGBColor = RGBColor(200, 70, 20);

impl StudyReport<'_> {
    /// `pareto.svg`: the stable trials on the first two axes, the frontier of the feasible ones as
    /// a line, its knee and the winner marked; `None` without a feasible trial.
    pub fn pareto_svg(&self) -> Option<String> {
        let [x, y] = self.space.pareto.get(..2)? else { return None };
        let points = self.state.pareto(self.space);
        let shown = window(&points)?;
        let mut text = String::new();
        let drawn = self.draw(&mut text, (&x, &y), &points, shown);
        drawn.is_ok().then_some(text)
    }

    fn draw(
        &self,
        text: &mut String,
        (x, y): (&MetricName, &MetricName),
        points: &[ParetoPoint],
        [across, up]: [(f64, f64); 2],
    ) -> Result<(), Box<dyn std::error::Error>> {
        let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(
                format!("{}: what is feasible, and its frontier", self.space.name),
                ("sans-serif", 20),
            )
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
        let place = |point: &ParetoPoint| (point.values[0], point.values[1]);
        let seen = |point: &&ParetoPoint| {
            let (a, b) = place(point);
            (across.0..=across.1).contains(&a) && (up.0..=up.1).contains(&b)
        };
        for point in points.iter().filter(seen) {
            let colour = if point.feasible { FEASIBLE } else { INFEASIBLE };
            chart.draw_series([Circle::new(place(point), 3, colour.filled())])?;
        }
        let front: Vec<&ParetoPoint> =
            points.iter().filter(|point| point.feasible && !point.dominated).collect();
        let steps = stairs(&front.iter().map(|point| place(point)).collect::<Vec<_>>());
        chart.draw_series(LineSeries::new(steps, FRONT.stroke_width(2)))?;
        chart.draw_series(front.iter().map(|p| Circle::new(place(p), 5, FRONT.filled())))?;
        let knee = pareto::knee(self.space, points).map(|trial| (trial, "knee"));
        let winner = self.state.winner.map(|trial| (trial, "winner"));
        for (rank, (trial, name)) in [knee, winner].into_iter().flatten().enumerate() {
            let Some(point) = points.iter().find(|point| point.trial == trial) else { continue };
            let at = place(point);
            let words = format!("{name}: trial {trial}");
            let style = ("sans-serif", 14).into_font().color(&MARKED);
            chart.draw_series([Circle::new(at, 8, MARKED.stroke_width(2))])?;
            let beside = (10, -18 - 16 * rank as i32);
            chart.draw_series([EmptyElement::at(at) + Text::new(words, beside, style)])?;
        }
        root.present()?;
        Ok(())
    }
}

/// What an axis shows, and where it is good.
fn described(axis: &MetricName) -> String {
    let better = if axis.better() == Better::Lower { "lower" } else { "higher" };
    format!("{axis} ({better} is better)")
}

/// The part of the plane that holds the feasible trials, with some air around them.
fn window(points: &[ParetoPoint]) -> Option<[(f64, f64); 2]> {
    let range = |axis: usize| {
        let values = || points.iter().filter(|p| p.feasible).map(|point| point.values[axis]);
        let (low, high) = (values().reduce(f64::min)?, values().reduce(f64::max)?);
        let air = (0.08 * (high - low)).max(0.02 * high.abs()).max(1e-9);
        Some((low - air, high + air))
    };
    Some([range(0)?, range(1)?])
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

    #[test]
    fn the_window_holds_what_is_feasible_even_where_it_is_a_single_point() {
        let point = |feasible, values: [f64; 2]| ParetoPoint {
            trial: 0,
            values: values.to_vec(),
            dominated: false,
            feasible,
        };
        let shown = window(&[point(true, [5.0, 7.0]), point(false, [1e9, 1.0])]).expect("one");
        assert!(shown[0].0 < 5.0 && shown[0].1 > 5.0 && shown[0].1 < 10.0);
        assert_eq!(window(&[point(false, [1.0, 1.0])]), None);
    }
}
