//! Draws the challenge: a small sum as strokes in an SVG, for a person to read.
//!
//! A glyph is a few strokes, a stroke is a chain of control points. Each glyph is bent a
//! little, each stroke is cut into short pieces, and all pieces become one shuffled list of
//! paths of one form, `M x y Q x y x y`, with no attribute but `d`. What could still be
//! counted is filled up: second covers over the ink bring every drawing to a number of paths
//! that no digit decides, and a few specks lie beside it. So no element, order, count or
//! length names a digit, and a regular expression finds nothing but coordinates.
//!
//! It is no wall against a program that renders the picture and looks at it: [`draw`] says
//! how often that succeeds. This file must never see a clock, or randomness but the seed. The
//! seed has to be secret, and used once: whoever knows it knows the sum.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// Width of a drawing, in CSS pixels.
pub const WIDTH_PX: u32 = 200;
/// Height of a drawing, in CSS pixels.
pub const HEIGHT_PX: u32 = 64;
/// No drawing is longer, in bytes.
pub const SVG_BYTES_MAX: usize = 4096;
/// How many different answers [`Sum::from_seed`] draws from, each as likely as the others.
pub const ANSWERS: u16 = 128;

/// The smallest answer that is drawn.
const ANSWER_MIN: u16 = 3;
/// What the operands of a drawn sum may be.
const LEFT: (u16, u16) = (11, 99);
const RIGHT: (u16, u16) = (2, 99);

/// Units of the drawing's own coordinates in a CSS pixel, so that they are whole numbers.
const UNITS_PER_PX: u32 = 10;
/// The canvas, in units.
const WIDTH: f32 = (WIDTH_PX * UNITS_PER_PX) as f32;
const HEIGHT: f32 = (HEIGHT_PX * UNITS_PER_PX) as f32;
/// How many paths a drawing has: at least so many, and at most so many more.
const PATHS_MIN: usize = 84;
const PATHS_MORE: usize = 10;
/// Of which so many are specks beside the ink.
const SPECKS: (u32, u32) = (4, 8);
/// Lengths of the pieces that a stroke is cut into, in units.
const PIECE: (f32, f32) = (30.0, 140.0);
/// Lengths of the specks: within those of the pieces.
const SPECK: (f32, f32) = (30.0, 50.0);
/// How far a speck's middle is from any ink, in units.
const SPECK_CLEARANCE: f32 = 75.0;

/// A sum with one operation, such as `47 − 9`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sum {
    /// What comes first.
    pub left: u8,
    /// Whether `right` is added; else it is taken away.
    pub plus: bool,
    /// What comes second; when it is taken away, it must not be above `left`.
    pub right: u8,
}

impl Sum {
    /// The sum of a seed: `left` 11 to 99, `right` 2 to 99, never a negative answer.
    ///
    /// The answer is drawn first, 3 to 130 with the same chance each, and then one of the
    /// sums that have it. So the best blind guess is right once in 128 ([`ANSWERS`]), and no
    /// guess is better than another.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut dice = Dice::new(seed, b"sum");
        // ANSWERS divides 2^32: no answer is favoured.
        let answer = ANSWER_MIN + dice.below(u32::from(ANSWERS)) as u16;
        Self::with_answer(answer, &mut dice)
    }

    /// One of the sums that have this answer, which is one of those that are drawn.
    fn with_answer(answer: u16, dice: &mut Dice) -> Self {
        let plus_possible = answer >= LEFT.0 + RIGHT.0;
        let minus_possible = answer + RIGHT.0 <= LEFT.1;
        let plus = if plus_possible && minus_possible { dice.coin() } else { plus_possible };
        let (left_min, left_max) = if plus {
            (LEFT.0.max(answer.saturating_sub(RIGHT.1)), LEFT.1.min(answer - RIGHT.0))
        } else {
            (LEFT.0.max(answer + RIGHT.0), LEFT.1)
        };
        let left = left_min + dice.below(u32::from(left_max - left_min) + 1) as u16;
        Self { left: left as u8, plus, right: left.abs_diff(answer) as u8 }
    }

    /// What a person has to type. A sum that takes away more than there is counts as 0; no
    /// seed draws one.
    pub fn answer(self) -> u16 {
        let (left, right) = (u16::from(self.left), u16::from(self.right));
        if self.plus { left + right } else { left.saturating_sub(right) }
    }

    /// The glyphs of the picture, `None` where a wider gap is.
    fn glyphs(self) -> Vec<Option<Glyph>> {
        let mut glyphs = digits(self.left);
        glyphs.push(None);
        glyphs.push(Some(if self.plus { PLUS } else { MINUS }));
        glyphs.push(None);
        glyphs.extend(digits(self.right));
        glyphs.extend([None, Some(EQUALS), None, Some(QUESTION)]);
        glyphs
    }
}

fn digits(number: u8) -> Vec<Option<Glyph>> {
    let hundreds = (number >= 100).then_some(number / 100);
    let tens = (number >= 10).then_some(number / 10 % 10);
    let all = hundreds.into_iter().chain(tens).chain([number % 10]);
    all.map(|digit| Some(DIGITS[usize::from(digit)])).collect()
}

/// The picture of a sum, `sum = ?`, as an SVG document of 200 × 64 CSS pixels and at most
/// [`SVG_BYTES_MAX`] bytes, with a light ground of its own.
///
/// The same sum and seed give the same bytes. Attributes are quoted with `'`, and none of
/// `"`, `\`, `#`, `%`, `&` and `+` occurs: a JSON string carries it as it is, and so does a
/// `data:image/svg+xml,` address between double quotes.
///
/// Recognition meant for print (Tesseract 5.3) read 27 of 50 drawings right at twice the
/// size, and 20 to 29 with other sizes and settings; one that is trained on these drawings
/// will read nearly all. So a challenge makes a script pay for each try and stops none that
/// is written for it. A drawing takes about 50 µs of CPU: limit who may ask.
pub fn draw(sum: Sum, seed: &[u8; 32]) -> String {
    let mut dice = Dice::new(seed, b"drawing");
    let strokes = lay_out(sum, &mut dice);
    let mut pieces = Vec::with_capacity(PATHS_MIN + PATHS_MORE);
    for stroke in &strokes {
        cut(&stroke.points, &mut dice, &mut pieces);
    }
    add_specks(&strokes, &mut dice, &mut pieces);
    add_covers(&strokes, &mut dice, &mut pieces);
    dice.shuffle(&mut pieces);
    write_svg(&pieces)
}

/// A place on the canvas, or in a glyph's box of 100 × 140, with y downwards.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Point {
    x: f32,
    y: f32,
}

impl Point {
    fn mix(self, other: Self, share: f32) -> Self {
        let mix = |a: f32, b: f32| a + (b - a) * share;
        Self { x: mix(self.x, other.x), y: mix(self.y, other.y) }
    }

    fn distance(self, other: Self) -> f32 {
        ((self.x - other.x).powi(2) + (self.y - other.y).powi(2)).sqrt()
    }

    fn moved(self, dice: &mut Dice, most: f32) -> Self {
        Self { x: self.x + dice.within(-most, most), y: self.y + dice.within(-most, most) }
    }
}

/// The strokes of a glyph. A stroke starts and ends on its outer points; between them it is
/// the quadratic B-spline of its points, two points are a line.
#[derive(Clone, Copy)]
struct Glyph {
    /// Share of a digit's width that it takes.
    width: f32,
    strokes: &'static [&'static [(i16, i16)]],
    /// Whether nothing may lie above or below it: a speck there makes a `÷` of a `−`.
    alone: bool,
}

const fn glyph(width: f32, strokes: &'static [&'static [(i16, i16)]]) -> Glyph {
    Glyph { width, strokes, alone: false }
}

const fn sign(width: f32, strokes: &'static [&'static [(i16, i16)]]) -> Glyph {
    Glyph { width, strokes, alone: true }
}

/// 0 to 9. A 1 has a foot and a 7 leans, so that neither is the other when turned.
const DIGITS: [Glyph; 10] = [
    glyph(
        1.0,
        &[&[
            (50, 0),
            (90, 0),
            (100, 42),
            (100, 98),
            (90, 140),
            (10, 140),
            (0, 98),
            (0, 42),
            (10, 0),
            (50, 0),
        ]],
    ),
    glyph(0.8, &[&[(18, 30), (56, 0)], &[(56, 0), (56, 140)], &[(18, 140), (94, 140)]]),
    glyph(1.0, &[&[(4, 40), (4, 0), (98, -8), (100, 54), (56, 84), (4, 140)], &[(4, 140), (98, 140)]]),
    glyph(
        1.0,
        &[
            &[(4, 26), (10, -4), (94, -8), (96, 62), (36, 64)],
            &[(36, 64), (104, 62), (106, 146), (10, 148), (0, 114)],
        ],
    ),
    glyph(1.0, &[&[(72, 140), (72, 0)], &[(72, 0), (2, 96)], &[(2, 96), (102, 96)]]),
    glyph(
        1.0,
        &[
            &[(92, 0), (16, 0)],
            &[(16, 0), (8, 66)],
            &[(8, 66), (28, 44), (100, 42), (104, 142), (16, 148), (0, 116)],
        ],
    ),
    glyph(
        1.0,
        &[&[(86, 8), (46, 0), (0, 44), (0, 98), (8, 140), (92, 140), (100, 98), (92, 54), (16, 54), (2, 96)]],
    ),
    glyph(1.0, &[&[(2, 0), (98, 0)], &[(98, 0), (46, 62), (18, 140)]]),
    glyph(
        1.0,
        &[
            &[(50, 0), (84, 0), (92, 32), (84, 64), (16, 64), (8, 32), (16, 0), (50, 0)],
            &[(50, 64), (92, 64), (102, 102), (92, 140), (8, 140), (-2, 102), (8, 64), (50, 64)],
        ],
    ),
    glyph(
        1.0,
        &[&[
            (14, 132),
            (54, 140),
            (100, 96),
            (100, 42),
            (92, 0),
            (8, 0),
            (0, 42),
            (8, 86),
            (84, 86),
            (98, 44),
        ]],
    ),
];
const PLUS: Glyph = sign(0.85, &[&[(50, 34), (50, 116)], &[(0, 75), (100, 75)]]);
const MINUS: Glyph = sign(0.85, &[&[(0, 75), (100, 75)]]);
const EQUALS: Glyph = sign(0.75, &[&[(0, 56), (100, 56)], &[(0, 94), (100, 94)]]);
const QUESTION: Glyph =
    glyph(0.8, &[&[(4, 36), (6, -2), (96, -6), (100, 52), (50, 56), (50, 98)], &[(50, 132), (50, 140)]]);

/// A stroke on the canvas.
struct Stroke {
    /// The ends of many short lines.
    points: Vec<Point>,
    alone: bool,
}

/// Puts the glyphs side by side, each one bent, and shifts them as a whole.
fn lay_out(sum: Sum, dice: &mut Dice) -> Vec<Stroke> {
    const DIGIT: f32 = 205.0;
    const GAP: f32 = 62.0;
    const GAP_MORE: f32 = 22.0;
    const MARGIN: f32 = 90.0;
    let glyphs = sum.glyphs();
    let advance = |glyph: &Option<Glyph>| glyph.map_or(GAP_MORE, |glyph| glyph.width * DIGIT + GAP);
    let width = glyphs.iter().map(advance).sum::<f32>() - GAP;
    let scale = ((WIDTH - 2.0 * MARGIN) / width).min(1.0);
    let mut x = (WIDTH - width * scale) * dice.within(0.35, 0.65);
    let mut strokes = Vec::new();
    for entry in &glyphs {
        if let Some(glyph) = entry {
            let bend = Bend::new(glyph, x, scale * DIGIT / 100.0, dice);
            for points in glyph.strokes {
                let points: Vec<Point> = points.iter().map(|&(x, y)| bend.place(x, y, dice)).collect();
                strokes.push(Stroke { points: smooth(&points), alone: glyph.alone });
            }
        }
        x += advance(entry) * scale;
    }
    strokes
}

/// How one glyph is turned, stretched and shifted: a matrix with small random parts.
struct Bend {
    middle: Point,
    /// The rows of the matrix.
    to_x: [f32; 2],
    to_y: [f32; 2],
}

impl Bend {
    /// For a glyph that starts at `x`, with so many units for one of its box.
    fn new(glyph: &Glyph, x: f32, unit: f32, dice: &mut Dice) -> Self {
        /// Digits are that much taller than their box says.
        const TALL: f32 = 1.29;
        let wide = glyph.width * unit;
        let middle = Point {
            x: x + 50.0 * wide + dice.within(-10.0, 10.0),
            y: HEIGHT / 2.0 + dice.within(-35.0, 35.0),
        };
        // So small that sine and angle are the same to the eye.
        let turn = dice.within(-0.21, 0.21);
        let lean = dice.within(-0.17, 0.17);
        Self {
            middle,
            to_x: [wide * dice.within(0.88, 1.1), lean - turn * unit],
            to_y: [turn * wide, TALL * unit * dice.within(0.9, 1.12)],
        }
    }

    /// Where a point of the glyph's box comes to lie, give or take a little.
    fn place(&self, x: i16, y: i16, dice: &mut Dice) -> Point {
        let (x, y) = (f32::from(x) - 50.0, f32::from(y) - 70.0);
        let row = |row: [f32; 2]| row[0] * x + row[1] * y;
        let place = Point { x: self.middle.x + row(self.to_x), y: self.middle.y + row(self.to_y) };
        place.moved(dice, 7.0)
    }
}

/// The B-spline of control points as short lines.
fn smooth(control: &[Point]) -> Vec<Point> {
    const STEPS: u8 = 8;
    let straight = [control[0], control[0].mix(control[1], 0.5), control[1]];
    let control = if control.len() == 2 { &straight[..] } else { control };
    let last = control.len() - 1;
    let mut points = vec![control[0]];
    for at in 1..last {
        let from = if at == 1 { control[0] } else { control[at - 1].mix(control[at], 0.5) };
        let to = if at + 1 == last { control[last] } else { control[at].mix(control[at + 1], 0.5) };
        for step in 1..=STEPS {
            let share = f32::from(step) / f32::from(STEPS);
            points.push(from.mix(control[at], share).mix(control[at].mix(to, share), share));
        }
    }
    points
}

impl Stroke {
    /// Whether a speck with this middle would touch it or change its meaning.
    fn is_near(&self, middle: Point) -> bool {
        self.points.iter().any(|ink| {
            let distance = if self.alone { (ink.x - middle.x).abs() } else { ink.distance(middle) };
            distance < SPECK_CLEARANCE
        })
    }
}

fn length(stroke: &[Point]) -> f32 {
    stroke.windows(2).map(|line| line[0].distance(line[1])).sum()
}

/// The point of a stroke so far behind its start; its end for more than its length.
fn point_at(stroke: &[Point], mut along: f32) -> Point {
    for line in stroke.windows(2) {
        let length = line[0].distance(line[1]);
        if along < length {
            return line[0].mix(line[1], along / length);
        }
        along -= length;
    }
    stroke[stroke.len() - 1]
}

/// One path: where it starts, what it bends toward, where it ends.
type Piece = [Point; 3];

/// The part of a stroke between two lengths, a little longer, a little off, either way round.
fn piece(stroke: &[Point], from: f32, to: f32, dice: &mut Dice) -> Piece {
    let (from, to) = ((from - dice.within(2.0, 12.0)).max(0.0), to + dice.within(2.0, 12.0));
    let to = to.min(length(stroke));
    let ends = [point_at(stroke, from).moved(dice, 3.0), point_at(stroke, to).moved(dice, 3.0)];
    let middle = point_at(stroke, (from + to) / 2.0);
    // The curve passes the middle half-way.
    let toward = ends[0].mix(ends[1], 0.5).mix(middle, 2.0).moved(dice, 3.0);
    if dice.coin() { [ends[0], toward, ends[1]] } else { [ends[1], toward, ends[0]] }
}

/// Cuts a stroke into pieces of random lengths, which cover it without a gap.
fn cut(stroke: &[Point], dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let end = length(stroke);
    let mut from = 0.0;
    while end - from > PIECE.1 {
        let to = from + dice.within(PIECE.0, PIECE.1.min(end - from - PIECE.0));
        pieces.push(piece(stroke, from, to, dice));
        from = to;
    }
    pieces.push(piece(stroke, from, end, dice));
}

/// Lays specks where no ink is near; fewer, where there is no room.
fn add_specks(strokes: &[Stroke], dice: &mut Dice, pieces: &mut Vec<Piece>) {
    const TRIES: u32 = 60;
    let room = (SPECKS.0 + dice.below(SPECKS.1 - SPECKS.0 + 1)) as usize;
    let mut others: Vec<Point> = Vec::with_capacity(room);
    for _ in 0..TRIES {
        if others.len() == room {
            break;
        }
        let middle = Point { x: dice.within(40.0, WIDTH - 40.0), y: dice.within(45.0, HEIGHT - 45.0) };
        let crowded = strokes.iter().any(|stroke| stroke.is_near(middle))
            || others.iter().any(|other| other.distance(middle) < SPECK_CLEARANCE);
        if !crowded {
            others.push(middle);
            pieces.push(speck(middle, dice));
        }
    }
}

/// A short steep stroke: a flat one could pass for a minus.
fn speck(middle: Point, dice: &mut Dice) -> Piece {
    let half = dice.within(SPECK.0, SPECK.1) / 2.0;
    let lean = dice.within(-half, half) * 0.8;
    let ends =
        [Point { x: middle.x - lean, y: middle.y - half }, Point { x: middle.x + lean, y: middle.y + half }];
    let toward = middle.moved(dice, 8.0);
    if dice.coin() { [ends[0], toward, ends[1]] } else { [ends[1], toward, ends[0]] }
}

/// Covers ink a second time, until the number of paths is one that the dice chose.
fn add_covers(strokes: &[Stroke], dice: &mut Dice, pieces: &mut Vec<Piece>) {
    let count = PATHS_MIN + dice.below(PATHS_MORE as u32 + 1) as usize;
    while pieces.len() < count {
        let stroke = &strokes[dice.below(strokes.len() as u32) as usize];
        let long = dice.within(PIECE.0, PIECE.1);
        let from = dice.within(0.0, (length(&stroke.points) - long).max(0.0));
        pieces.push(piece(&stroke.points, from, from + long, dice));
    }
}

fn write_svg(pieces: &[Piece]) -> String {
    let mut svg = String::with_capacity(SVG_BYTES_MAX);
    let head = write!(
        svg,
        "<svg xmlns='http://www.w3.org/2000/svg' width='{WIDTH_PX}' height='{HEIGHT_PX}' \
         viewBox='0 0 {WIDTH} {HEIGHT}' fill='none' stroke='midnightblue' stroke-width='28' \
         stroke-linecap='round'><rect width='{WIDTH}' height='{HEIGHT}' fill='ghostwhite' stroke='none'/>"
    );
    head.expect("a string takes everything");
    for piece in pieces {
        let [from, toward, to] = piece.map(|point| (point.x.round() as i32, point.y.round() as i32));
        let path =
            write!(svg, "<path d='M{} {}Q{} {} {} {}'/>", from.0, from.1, toward.0, toward.1, to.0, to.1);
        path.expect("a string takes everything");
    }
    svg.push_str("</svg>");
    svg
}

/// Numbers out of a seed: SHA-256 over purpose, seed and a counter.
struct Dice {
    seed: [u8; 32],
    purpose: &'static [u8],
    counter: u32,
    block: [u8; 32],
    used: usize,
}

impl Dice {
    fn new(seed: &[u8; 32], purpose: &'static [u8]) -> Self {
        Self { seed: *seed, purpose, counter: 0, block: [0; 32], used: 32 }
    }

    fn next(&mut self) -> u32 {
        if self.used == self.block.len() {
            let hash = Sha256::new().chain_update(self.purpose).chain_update(self.seed);
            self.block = hash.chain_update(self.counter.to_le_bytes()).finalize().into();
            self.counter += 1;
            self.used = 0;
        }
        let bytes = &self.block[self.used..self.used + 4];
        self.used += 4;
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// 0 to `bound` − 1; a bound that is no power of two favours some by less than
    /// `bound` / 2^32.
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(bound)) >> 32) as u32
    }

    fn within(&mut self, min: f32, max: f32) -> f32 {
        min + (max - min) * (self.next() >> 8) as f32 / 16_777_216.0
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::*;

    fn seed(number: u32) -> [u8; 32] {
        Sha256::digest(number.to_le_bytes()).into()
    }

    /// The paths of a drawing, in the order of the document. Anything else than the frame
    /// and paths of the one form is red.
    fn paths(svg: &str) -> Vec<[i32; 6]> {
        let frame_end = svg.find("<path").expect("a path");
        assert!(svg.starts_with("<svg xmlns='http://www.w3.org/2000/svg' "), "{svg}");
        assert_eq!(svg[..frame_end].matches('<').count(), 2, "more than svg and rect: {svg}");
        let body = svg[frame_end..].strip_suffix("</svg>").expect("an end");
        body.split_terminator("'/>").map(|path| numbers(path).unwrap_or_else(|| panic!("{path}"))).collect()
    }

    fn numbers(path: &str) -> Option<[i32; 6]> {
        let (from, rest) = path.strip_prefix("<path d='M")?.split_once('Q')?;
        let all: Result<Vec<i32>, _> = from.split(' ').chain(rest.split(' ')).map(str::parse).collect();
        (from.split(' ').count() == 2).then_some(all.ok()?.try_into().ok()?)
    }

    #[test]
    fn every_answer_is_as_likely_as_the_others() {
        const EACH: usize = 200;
        let mut hits = [0usize; 200];
        for number in 0..u32::from(ANSWERS) * EACH as u32 {
            let sum = Sum::from_seed(&seed(number));
            assert!((11..=99).contains(&sum.left) && (2..=99).contains(&sum.right), "{sum:?}");
            assert!(sum.plus || sum.left >= sum.right, "{sum:?}");
            hits[usize::from(sum.answer())] += 1;
        }
        let drawn: Vec<usize> = hits.into_iter().filter(|hits| *hits > 0).collect();
        assert_eq!(drawn.len(), usize::from(ANSWERS));
        // Five standard deviations about the mean, so that one in 128 is what a guess has.
        assert!(drawn.iter().all(|hits| hits.abs_diff(EACH) <= 71), "{drawn:?}");
    }

    #[test]
    fn a_sum_has_the_answer_that_was_drawn() {
        let mut dice = Dice::new(&seed(1), b"test");
        for answer in ANSWER_MIN..ANSWER_MIN + ANSWERS {
            let sums: Vec<Sum> = (0..200).map(|_| Sum::with_answer(answer, &mut dice)).collect();
            assert!(sums.iter().all(|sum| sum.answer() == answer), "{answer}: {sums:?}");
            let different: HashSet<_> = sums.iter().map(|sum| (sum.left, sum.plus)).collect();
            assert!(different.len() > 40, "{answer}: only {} sums", different.len());
        }
        assert_eq!(Sum { left: 3, plus: false, right: 4 }.answer(), 0);
        assert_eq!(Sum { left: 255, plus: true, right: 255 }.answer(), 510);
    }

    #[test]
    fn a_seed_decides_all_and_another_seed_draws_another_picture() {
        let sum = Sum { left: 47, plus: true, right: 38 };
        let all: HashSet<String> = (0..200).map(|number| draw(sum, &seed(number))).collect();
        assert_eq!(all.len(), 200);
        assert!(all.contains(&draw(sum, &seed(123))), "not the same bytes again");
    }

    #[test]
    fn a_drawing_is_paths_of_one_form_within_its_bounds() {
        let odd = [(255, true, 255), (200, false, 199), (0, false, 0), (3, false, 9)];
        let odd = odd.map(|(left, plus, right)| Sum { left, plus, right });
        let drawn = (0..500).map(|number| Sum::from_seed(&seed(number)));
        for (number, sum) in drawn.chain(odd).enumerate() {
            let svg = draw(sum, &seed(number as u32));
            assert!(svg.len() <= SVG_BYTES_MAX, "{sum:?}: {} bytes", svg.len());
            let plain = |c: char| c.is_ascii_alphanumeric() || " '/:.=<>-".contains(c);
            assert!(svg.chars().all(plain), "needs escaping: {svg}");
            for path in paths(&svg) {
                let inside =
                    path.chunks(2).all(|at| (0..=2000).contains(&at[0]) && (0..=640).contains(&at[1]));
                assert!(inside, "{sum:?}: {path:?} leaves the canvas");
            }
        }
    }

    #[test]
    fn the_same_digit_is_never_drawn_twice_alike() {
        let sum = Sum { left: 11, plus: true, right: 11 };
        let mut seen = HashSet::new();
        for number in 0..200 {
            for path in paths(&draw(sum, &seed(number))) {
                assert!(seen.insert(path), "{path:?} was drawn before");
            }
        }
    }

    #[test]
    fn no_digit_decides_how_many_paths_there_are() {
        let most: BTreeSet<usize> = (PATHS_MIN..=PATHS_MIN + PATHS_MORE).collect();
        for (left, right) in [(11, 2), (11, 11), (47, 29), (88, 88)] {
            let sum = Sum { left, plus: true, right };
            let counts: BTreeSet<usize> =
                (0..200).map(|number| paths(&draw(sum, &seed(number))).len()).collect();
            assert_eq!(counts, most, "{sum:?}");
        }
    }

    #[test]
    fn no_speck_makes_another_sign() {
        let sum = Sum { left: 52, plus: false, right: 9 };
        let mut specks = Vec::new();
        for number in 0..200 {
            let mut dice = Dice::new(&seed(number), b"test");
            let strokes = lay_out(sum, &mut dice);
            specks.clear();
            add_specks(&strokes, &mut dice, &mut specks);
            assert!(specks.len() <= 8, "{} specks", specks.len());
            let minus = strokes.iter().find(|stroke| stroke.alone).expect("a minus");
            for [from, _, to] in &specks {
                assert!((from.x - to.x).abs() < (from.y - to.y).abs(), "{from:?} to {to:?} is flat");
                let beside = |ink: &Point| (from.x - ink.x).abs().min((to.x - ink.x).abs()) > 50.0;
                assert!(minus.points.iter().all(beside), "a speck at {from:?} by the minus of {number}");
            }
        }
    }

    /// What can be counted in the markup without drawing it: how many paths, how long in
    /// all, and the boxes of the first of them.
    fn countable(svg: &str) -> Vec<f32> {
        let paths = paths(svg);
        let wide = |path: &[i32; 6]| (path[4] - path[0]) as f32;
        let high = |path: &[i32; 6]| (path[5] - path[1]) as f32;
        let long: f32 = paths.iter().map(|path| wide(path).hypot(high(path))).sum();
        let boxes = paths
            .iter()
            .take(4)
            .flat_map(|path| [path[0] as f32, path[1] as f32, wide(path).abs(), high(path).abs()]);
        [paths.len() as f32, long, svg.len() as f32].into_iter().chain(boxes).collect()
    }

    /// Scales each column to the same spread.
    fn level(rows: &mut [Vec<f32>]) {
        let count = rows.len() as f32;
        for column in 0..rows[0].len() {
            let mean = rows.iter().map(|row| row[column]).sum::<f32>() / count;
            let spread = (rows.iter().map(|row| (row[column] - mean).powi(2)).sum::<f32>() / count).sqrt();
            rows.iter_mut().for_each(|row| row[column] = (row[column] - mean) / spread.max(0.01));
        }
    }

    /// How many of the last rows are guessed right by the most alike of the first.
    fn guessed(rows: &[Vec<f32>], labels: &[u16], learned: usize) -> usize {
        let apart = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let right = |at: &usize| {
            let alike = (0..learned)
                .min_by(|a, b| apart(&rows[*a], &rows[*at]).total_cmp(&apart(&rows[*b], &rows[*at])));
            alike.map(|alike| labels[alike]) == Some(labels[*at])
        };
        (learned..rows.len()).filter(right).count()
    }

    #[test]
    fn counting_in_the_markup_does_not_beat_guessing() {
        const ALL: usize = 4_000;
        const LEARNED: usize = 3_000;
        let sums: Vec<Sum> = (0..ALL as u32).map(|number| Sum::from_seed(&seed(number))).collect();
        let draw = |(number, sum): (usize, &Sum)| countable(&draw(*sum, &seed(number as u32)));
        let mut rows: Vec<Vec<f32>> = sums.iter().enumerate().map(draw).collect();
        level(&mut rows);
        let tried = |label: fn(&Sum) -> u16| {
            let labels: Vec<u16> = sums.iter().map(label).collect();
            guessed(&rows, &labels, LEARNED)
        };
        // Of 1,000 tries each, where the best blind guess is right 8, 162 and 107 times.
        let answers = tried(|sum| sum.answer());
        let tens = tried(|sum| u16::from(sum.left / 10));
        let ones = tried(|sum| u16::from(sum.left % 10));
        assert!(answers <= 20, "{answers} of 1,000 answers");
        assert!(tens <= 190, "{tens} of 1,000 first digits");
        assert!(ones <= 140, "{ones} of 1,000 second digits");
    }
}
