// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The picture: cost of a random page against the size of the memory, both axes logarithmic.

use std::fmt::Write as _;

use super::figures::Figure;

/// Sizes in GiB, and what the figures of each are called.
const SIZES: [(f64, &str); 6] = [
    (1.0, "random.1g"),
    (4.0, "plot.4g"),
    (16.0, "plot.16g"),
    (64.0, "random.64g"),
    (256.0, "plot.256g"),
    (1024.0, "random.1t"),
];

/// Kind of figure, which of its two times, colour, dash, label.
const LINES: [(&str, usize, &str, &str, &str); 4] = [
    (
        "path",
        1,
        "#c0392b",
        "",
        "C: one call an entry, to the user's bitmap",
    ),
    ("path", 0, "#1f5fa8", "", "ours: ring to the user's bitmap"),
    (
        "mark",
        0,
        "#1f5fa8",
        "7 5",
        "ours: ring to the driver's bitmap",
    ),
    ("mark", 1, "#555555", "2 4", "__set_bit() in a flat bitmap"),
];

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;
const RIGHT: f64 = 30.0;
/// Powers of ten of nanoseconds.
const FROM: i32 = -1;
const TO: i32 = 6;

fn x(gib: f64) -> f64 {
    LEFT + gib.log2() / 10.0 * (WIDTH - LEFT - RIGHT)
}

fn y(ns: f64) -> f64 {
    let share = (ns.log10() - f64::from(FROM)) / f64::from(TO - FROM);
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

/// The picture, or nothing when points are missing: a short run has few.
pub(super) fn svg(figures: &[Figure]) -> Option<String> {
    let mut text = format!(
        "<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for power in FROM..=TO {
        let at = y(10f64.powi(power));
        let label = match power {
            ..=2 => format!("{} ns", 10f64.powi(power)),
            3..=5 => format!("{} µs", 10f64.powi(power - 3)),
            _ => "1 ms".into(),
        };
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#dddddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (gib, _) in SIZES {
        let label = if gib < 1024.0 {
            format!("{gib} GiB")
        } else {
            "1 TiB".into()
        };
        let _ = writeln!(
            text,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            x(gib),
            HEIGHT - BOTTOM + 22.0
        );
    }
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"20\" text-anchor=\"middle\" font-size=\"15\">Cost of a random dirty \
         page of 4 KiB</text>\n<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">tracked \
         memory</text>",
        WIDTH / 2.0,
        WIDTH / 2.0,
        HEIGHT - 12.0
    );
    for (row, (kind, side, colour, dash, label)) in LINES.into_iter().enumerate() {
        let mut path = String::new();
        for (gib, name) in SIZES {
            let name = format!("{kind}.{name}");
            let ns = figures.iter().find(|f| f.name == name)?.ns?;
            let verb = if path.is_empty() { 'M' } else { 'L' };
            let (at, cost) = (x(gib), y(ns[side]));
            let _ = write!(path, "{verb}{at:.1} {cost:.1}");
            let _ = writeln!(
                text,
                "<circle cx=\"{at:.1}\" cy=\"{cost:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        let stroke = format!("stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dash}\"");
        let line = TOP + 18.0 + 20.0 * row as f64;
        let _ = writeln!(
            text,
            "<path d=\"{path}\" fill=\"none\" {stroke}/>\n<path d=\"M{:.1} {:.1}h40\" {stroke}/>\
             <text x=\"{:.1}\" y=\"{line:.1}\">{label}</text>",
            LEFT + 20.0,
            line - 4.0,
            LEFT + 68.0
        );
    }
    text += "</svg>\n";
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_needs_all_points() {
        let mut figures = Vec::new();
        for (_, name) in SIZES {
            for kind in ["mark", "path"] {
                figures.push(Figure {
                    name: format!("{kind}.{name}"),
                    value: 1.0,
                    target: None,
                    at_least: false,
                    holds: None,
                    spread: [1.0, 1.0],
                    ns: Some([10.0, 100.0]),
                });
            }
        }
        let text = svg(&figures).unwrap_or_default();
        assert_eq!(text.matches("<circle").count(), 24);
        assert!(text.contains("1 TiB") && text.ends_with("</svg>\n"));
        figures.pop();
        assert!(svg(&figures).is_none());
    }
}
