//! The makespan against the number of tasks, as a drawing in SVG.

use crate::figure::median;
use crate::machine::Machine;
use crate::rows::makespan::Repeats;
use crate::run::Options;
use std::fmt::Write as _;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
/// Around the axes: left, top, right, bottom.
const MARGINS: [f64; 4] = [60.0, 50.0, 20.0, 60.0];

/// A number of tasks with the seconds of the agent and of bare docker.
pub struct Point {
    tasks: usize,
    agent: f64,
    bare: f64,
}

/// Measures all points, and prints them.
pub fn measure(options: &Options) -> Vec<Point> {
    let (counts, repeats) = options.size((&[1, 5, 20, 50, 100, 200][..], 3), (&[1, 5, 10], 1));
    println!("| tasks | agent-core | bare docker | ratio |\n|---|---|---|---|");
    let points = counts.iter().map(|&tasks| {
        let mut seconds = Repeats::default();
        for _ in 0..repeats {
            seconds.add(tasks);
        }
        let (agent, bare) = (median(&seconds.agent), median(&seconds.bare));
        println!("| {tasks} | {agent:.2} s | {bare:.2} s | {:.2} × |", agent / bare);
        Point { tasks, agent, bare }
    });
    points.collect()
}

/// The drawing. Its colours are readable on light and dark pages.
pub fn draw(points: &[Point], machine: &Machine) -> String {
    let most_tasks = points.iter().map(|point| point.tasks).max().unwrap_or(1) as f64;
    let most_seconds = points.iter().map(|point| point.agent.max(point.bare)).fold(0.1, f64::max);
    let step = nice_step(most_seconds);
    let axes = Axes { most_tasks, step, top: (most_seconds / step).ceil() * step };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\" fill=\"#808080\">\n<title>Time for a number of tasks, eight at once</title>\n"
    );
    axes.draw(&mut svg, points, &machine.short());
    let of = |seconds: fn(&Point) -> f64| -> Vec<(f64, f64)> {
        points.iter().map(|point| (axes.x(point.tasks as f64), axes.y(seconds(point)))).collect()
    };
    let bare = Series { name: "bare docker (xargs -P 8)", colour: "#2a78d6", places: of(|point| point.bare) };
    let agent = Series { name: "agent-core", colour: "#eb6834", places: of(|point| point.agent) };
    bare.draw(&mut svg, 16.0);
    agent.draw(&mut svg, 32.0);
    svg + "</svg>\n"
}

/// The axes: tasks from 0 to the right, seconds from 0 up.
struct Axes {
    most_tasks: f64,
    /// Seconds at the top, and between two lines.
    top: f64,
    step: f64,
}

impl Axes {
    fn x(&self, tasks: f64) -> f64 {
        MARGINS[0] + tasks / self.most_tasks * (WIDTH - MARGINS[0] - MARGINS[2])
    }

    fn y(&self, seconds: f64) -> f64 {
        HEIGHT - MARGINS[3] - seconds / self.top * (HEIGHT - MARGINS[1] - MARGINS[3])
    }

    /// Draws lines and labels; `about` is the last of these.
    fn draw(&self, svg: &mut String, points: &[Point], about: &str) {
        let [left, _, right, below] = MARGINS;
        for number in 0..=(self.top / self.step).round() as usize {
            let seconds = number as f64 * self.step;
            let (at, text) = (self.y(seconds), left - 8.0);
            let label = format!("{seconds:.*}", usize::from(self.step < 1.0));
            let _ = writeln!(
                svg,
                "<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#808080\" stroke-opacity=\"0.3\"/>\
                 <text x=\"{text}\" y=\"{:.1}\" text-anchor=\"end\">{label} s</text>",
                WIDTH - right,
                at + 4.0
            );
        }
        // Of labels that would overlap, the smaller number has none.
        let mut free = f64::INFINITY;
        for point in points.iter().rev() {
            let at = self.x(point.tasks as f64);
            if at + 14.0 <= free {
                free = at - 14.0;
                let (text, low) = (point.tasks, HEIGHT - below + 18.0);
                let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{low}\" text-anchor=\"middle\">{text}</text>");
            }
        }
        let middle = f64::midpoint(left, WIDTH - right);
        let (first, second) = (HEIGHT - below + 36.0, HEIGHT - below + 52.0);
        let about = escaped(about);
        let _ = writeln!(svg, "<text x=\"{middle}\" y=\"{first}\" text-anchor=\"middle\">tasks, eight at once</text>");
        let _ =
            writeln!(svg, "<text x=\"{middle}\" y=\"{second}\" text-anchor=\"middle\" font-size=\"10\">{about}</text>");
    }
}

/// A line through its places in the drawing.
struct Series {
    name: &'static str,
    colour: &'static str,
    places: Vec<(f64, f64)>,
}

impl Series {
    /// Draws the line, and its name at this height.
    fn draw(&self, svg: &mut String, height: f64) {
        let Self { name, colour, places } = self;
        let line: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let line = line.join(" ");
        let _ = writeln!(svg, "<polyline points=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
        for (x, y) in places {
            let _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
        }
        let (at, middle) = (MARGINS[0] + 4.0, height - 4.0);
        let _ = writeln!(svg, "<circle cx=\"{at}\" cy=\"{middle}\" r=\"4\" fill=\"{colour}\"/>");
        let _ = writeln!(svg, "<text x=\"{}\" y=\"{height}\">{name}</text>", at + 10.0);
    }
}

/// A step of 1, 2 or 5 times a power of ten that gives four to ten lines.
fn nice_step(most: f64) -> f64 {
    let rough = most / 5.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| power * factor >= rough * 0.999);
    power * factor.unwrap_or(10.0)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::nice_step;

    #[test]
    fn steps_of_an_axis_are_round_numbers() {
        assert_eq!([0.9, 3.0, 27.0, 99.0, 140.0].map(nice_step), [0.2, 1.0, 10.0, 20.0, 50.0]);
    }
}
