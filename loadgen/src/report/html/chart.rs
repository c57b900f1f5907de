//! One chart: a frame with two axes, lines and areas on it, words beside them.
//!
//! Inline SVG without script. Colours are classes of the page's style sheet, so that
//! light, dark and paper each have their own. Next: `report/html/charts.rs`, which says
//! what is drawn.

use std::fmt::Write as _;

use super::scale::Scale;
use super::write::escape;

/// Least distance between two labels, from base line to base line.
const LABEL_GAP: f64 = 15.0;

/// How large a chart is drawn; a page has each chart in both sizes and shows the one that fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Size {
    /// For a desk and for paper.
    Wide,
    /// For a telephone.
    Narrow,
}

impl Size {
    pub(super) const BOTH: [Self; 2] = [Self::Wide, Self::Narrow];
    const fn class(self) -> &'static str {
        match self {
            Self::Wide => "wide",
            Self::Narrow => "narrow",
        }
    }
    const fn paper(self) -> (f64, f64) {
        match self {
            Self::Wide => (860.0, 270.0),
            Self::Narrow => (360.0, 260.0),
        }
    }
    /// Left, right, top and bottom margin.
    const fn margins(self) -> (f64, f64, f64, f64) {
        match self {
            Self::Wide => (64.0, 112.0, 14.0, 44.0),
            Self::Narrow => (52.0, 66.0, 14.0, 44.0),
        }
    }
    /// Ticks that a horizontal axis has room for.
    const fn ticks_across(self) -> usize {
        match self {
            Self::Wide => 10,
            Self::Narrow => 4,
        }
    }
}

/// The outline of a line or an area, in as few letters as SVG allows: a page has thousands of points.
#[derive(Default)]
struct Path {
    text: String,
    /// Where the pen stands, as it was written.
    at: Option<(String, String)>,
}

impl Path {
    /// Draws to a point, or begins there.
    fn to(&mut self, (x, y): (f64, f64)) {
        let (x, y) = (short(x), short(y));
        let _ = match &self.at {
            None => write!(self.text, "M{x} {y}"),
            Some(at) if *at == (x.clone(), y.clone()) => Ok(()),
            Some((_, at_y)) if *at_y == y => write!(self.text, "H{x}"),
            Some((at_x, _)) if *at_x == x => write!(self.text, "V{y}"),
            Some(_) => write!(self.text, "L{x} {y}"),
        };
        self.at = Some((x, y));
    }
    /// The next point begins anew.
    fn lift(&mut self) {
        self.at = None;
    }
    const fn is_down(&self) -> bool {
        self.at.is_some()
    }
}

/// A place on the paper to a tenth.
fn short(place: f64) -> String {
    let text = format!("{place:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// A chart being drawn.
pub(super) struct Chart {
    size: Size,
    body: String,
    /// Height, class and text of the words at the lines' ends.
    labels: Vec<(f64, &'static str, String)>,
}

impl Chart {
    pub(super) const fn new(size: Size) -> Self {
        Self { size, body: String::new(), labels: Vec::new() }
    }
    /// Ticks that the horizontal axis has room for.
    pub(super) const fn ticks_across(&self) -> usize {
        self.size.ticks_across()
    }
    /// Left and right end of the plot.
    pub(super) const fn across(&self) -> (f64, f64) {
        let (left, right, ..) = self.size.margins();
        (left, self.size.paper().0 - right)
    }
    /// Lower and upper end of the plot, as a vertical axis runs.
    pub(super) const fn upwards(&self) -> (f64, f64) {
        let (.., top, bottom) = self.size.margins();
        (self.size.paper().1 - bottom, top)
    }

    /// Horizontal lines with their labels on the left.
    pub(super) fn y_axis(&mut self, scale: &Scale, ticks: &[f64], words: impl Fn(f64) -> String) {
        let (left, right) = self.across();
        for &tick in ticks {
            let y = scale.at(tick);
            let _ = write!(
                self.body,
                r#"<path class="grid" d="M{left} {y:.1}H{right}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                left - 8.0,
                y + 4.0,
                escape(&words(tick))
            );
        }
    }

    /// The base line, its ticks and what it counts.
    pub(super) fn x_axis(&mut self, ticks: &[(f64, String)], title: &str) {
        let ((left, right), (bottom, _)) = (self.across(), self.upwards());
        let _ = write!(self.body, r#"<path class="axis" d="M{left} {bottom:.1}H{right}"/>"#);
        for (x, words) in ticks {
            let _ = write!(
                self.body,
                r#"<path class="axis" d="M{x:.1} {bottom:.1}v5"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                bottom + 19.0,
                escape(words)
            );
        }
        let middle = f64::midpoint(left, right);
        let _ = write!(
            self.body,
            r#"<text class="name" x="{middle:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
            bottom + 37.0,
            escape(title)
        );
    }

    /// A line through the points; where one is missing there is a gap, and a lone point is a dot.
    pub(super) fn line(&mut self, class: &str, points: &[Option<(f64, f64)>]) {
        let mut path = Path::default();
        for (index, point) in points.iter().enumerate() {
            let Some(point) = *point else {
                path.lift();
                continue;
            };
            let lone = !path.is_down() && points.get(index + 1).is_none_or(Option::is_none);
            path.to(point);
            if lone {
                // With round ends a line of no length is a dot.
                path.text.push_str("h.01");
            }
        }
        let path = path.text;
        if !path.is_empty() {
            let _ = write!(self.body, r#"<path class="line {class}" d="{path}"/>"#);
        }
    }

    /// The area between two rows of heights over the same places.
    pub(super) fn area(&mut self, class: &str, over: &[(f64, f64)], under: &[(f64, f64)]) {
        let mut path = Path::default();
        over.iter().chain(under.iter().rev()).for_each(|&point| path.to(point));
        let path = path.text;
        if !path.is_empty() {
            let _ = write!(self.body, r#"<path class="area {class}" d="{path}Z"/>"#);
        }
    }

    /// Words beside the right end of a line, at its height or as near as there is room.
    pub(super) fn label(&mut self, class: &'static str, y: f64, words: &str) {
        self.labels.push((y, class, words.to_owned()));
    }

    /// Words on the plot, kept within it.
    pub(super) fn note(&mut self, class: &str, (x, y): (f64, f64), words: &str) {
        let (left, right) = self.across();
        // About how wide it is: enough to keep it off the edge.
        let half = words.chars().count() as f64 * 3.8 + 4.0;
        let x =
            x.clamp(left + half.min((right - left) / 2.0), (right - half).max(f64::midpoint(left, right)));
        let _ = write!(
            self.body,
            r#"<text class="note {class}" x="{x:.1}" y="{y:.1}" text-anchor="middle">{}</text>"#,
            escape(words)
        );
    }

    /// A vertical mark.
    pub(super) fn mark(&mut self, x: f64) {
        let (bottom, top) = self.upwards();
        let _ = write!(self.body, r#"<path class="mark" d="M{x:.1} {bottom:.1}V{top:.1}"/>"#);
    }

    /// The finished drawing; `summary` is what somebody hears who cannot see it.
    pub(super) fn svg(mut self, summary: &str) -> String {
        self.place_labels();
        let ((width, height), class) = (self.size.paper(), self.size.class());
        let (summary, body) = (escape(summary), self.body);
        format!(
            r#"<svg class="{class}" viewBox="0 0 {width} {height}" role="img" aria-label="{summary}"><title>{summary}</title>{body}</svg>"#
        )
    }

    /// Pushes labels apart that would lie on each other, downwards first, then back into the plot.
    fn place_labels(&mut self) {
        let ((_, right), (bottom, top)) = (self.across(), self.upwards());
        let mut labels = std::mem::take(&mut self.labels);
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut next = top;
        for label in &mut labels {
            label.0 = label.0.max(next);
            next = label.0 + LABEL_GAP;
        }
        let mut last = bottom;
        for label in labels.iter_mut().rev() {
            label.0 = label.0.min(last);
            last = label.0 - LABEL_GAP;
        }
        for (y, class, words) in labels {
            let _ = write!(
                self.body,
                r#"<text class="label {class}" x="{:.1}" y="{:.1}">{}</text>"#,
                right + 8.0,
                y + 4.0,
                escape(&words)
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_lie_on_each_other() {
        let mut chart = Chart::new(Size::Wide);
        let (bottom, top) = chart.upwards();
        for y in [top, top, top, 101.0, 102.0, bottom, bottom] {
            chart.label("c", y, "x");
        }
        let svg = chart.svg("s");
        let heights: Vec<f64> = svg
            .split(r#"class="label c""#)
            .skip(1)
            .map(|part| part.split("y=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 7);
        assert!(heights.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_GAP - 0.2), "{heights:?}");
        assert!(heights.iter().all(|&y| (top..=bottom + 5.0).contains(&y)), "{heights:?}");
    }

    #[test]
    fn a_gap_is_a_gap_and_a_lone_point_a_dot() {
        let mut chart = Chart::new(Size::Narrow);
        chart.line("c", &[Some((1.0, 1.0)), Some((2.0, 1.0)), None, Some((4.0, 1.0)), None, None]);
        assert!(chart.body.contains("M1 1H2M4 1h.01"), "{}", chart.body);
        chart.body.clear();
        chart.line("c", &[None]);
        assert_eq!(chart.body, "");
    }
}
