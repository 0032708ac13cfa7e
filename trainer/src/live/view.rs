//! A training as it looks on a terminal: a pure function of its state.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, BorderType, Chart, Dataset, Gauge, GraphType, Paragraph};

use super::state::State;

const TRAIN: Color = Color::Cyan;
const TEST: Color = Color::Yellow;
const ACCURACY: Color = Color::Green;
const FAINT: Color = Color::DarkGray;

/// The height of a terminal below which the events are left out.
const EVENTS_FROM: u16 = 18;

/// Draws a training that has gone on for `now`.
pub(super) fn draw(state: &State, now: Duration, frame: &mut Frame<'_>) {
    let events = if frame.area().height >= EVENTS_FROM { 6 } else { 0 };
    let rows = [
        Constraint::Min(3),
        Constraint::Length(3),
        Constraint::Length(2),
        Constraint::Length(events),
        Constraint::Length(1),
    ];
    let [charts, progress, numbers, events, keys] = Layout::vertical(rows).areas(frame.area());
    if state.accuracy.points().is_empty() {
        draw_loss(state, frame, charts);
    } else {
        let halves = Layout::horizontal([Constraint::Percentage(60), Constraint::Percentage(40)]);
        let [left, right] = halves.areas(charts);
        draw_loss(state, frame, left);
        draw_accuracy(state, frame, right);
    }
    draw_progress(state, now, frame, progress);
    draw_numbers(state, now, frame, numbers);
    draw_events(state, frame, events);
    frame.render_widget(Paragraph::new(" q stop   l log scale").style(Style::new().fg(FAINT)), keys);
}

fn draw_loss(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let scale = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        if !state.log_scale {
            return points.to_vec();
        }
        points.iter().filter(|(_, y)| *y > 0.0).map(|(x, y)| (*x, y.log10())).collect()
    };
    let (train, test) = (scale(state.loss.points()), scale(state.test_loss.points()));
    let curves = [("train", &train, TRAIN), ("test", &test, TEST)];
    let label = |y: f64| if state.log_scale { short(10_f64.powf(y)) } else { short(y) };
    chart(state, if state.log_scale { " loss, log " } else { " loss " }, &curves, label, frame, area);
}

fn draw_accuracy(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let points = state.accuracy.points().to_vec();
    chart(state, " accuracy, % ", &[("test", &points, ACCURACY)], |y| format!("{y:.1}"), frame, area);
}

/// A name, points, and their colour.
type Curve<'a> = (&'static str, &'a Vec<(f64, f64)>, Color);

fn chart(
    state: &State,
    title: &'static str,
    curves: &[Curve<'_>],
    label: impl Fn(f64) -> String,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let drawn: Vec<_> = curves.iter().filter(|(_, points, _)| !points.is_empty()).collect();
    let values = || drawn.iter().flat_map(|(_, points, _)| points.iter()).map(|(_, y)| *y);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let (low, high) = if drawn.is_empty() { (0.0, 1.0) } else { (low, high) };
    let room = 0.05 * if high > low { high - low } else { high.abs().max(0.1) };
    let (low, high) = (low - room, high + room);
    // What was trained before a resumption is not drawn.
    let places = || drawn.iter().flat_map(|(_, points, _)| points.iter()).map(|(x, _)| *x);
    let start = places().fold(f64::INFINITY, f64::min).min(state.place()).floor().max(0.0);
    let end = places().fold(state.place(), f64::max).max(start + 0.01);
    let legend = drawn.iter().flat_map(|(name, _, color)| [Span::raw(" - ").fg(*color), Span::raw(*name)]);
    let legend = Line::from_iter(legend.chain([Span::raw(" ")])).right_aligned();
    let datasets = drawn.iter().map(|(_, points, color)| {
        let style = Style::new().fg(*color);
        Dataset::default().marker(Marker::Braille).graph_type(GraphType::Line).style(style).data(points)
    });
    let axis = |bounds: [f64; 2], labels: Vec<String>| {
        Axis::default().style(Style::new().fg(FAINT)).bounds(bounds).labels(labels)
    };
    let chart = Chart::new(datasets.collect())
        .block(block(title).title_top(legend))
        .x_axis(axis([start, end], vec![short(start), format!("{} epochs", short(end))]))
        .y_axis(axis([low, high], vec![label(low), label(f64::midpoint(low, high)), label(high)]))
        .legend_position(None);
    frame.render_widget(chart, area);
}

fn draw_progress(state: &State, now: Duration, frame: &mut Frame<'_>, area: Rect) {
    let left = state.left(now).map(|left| format!(", about {} left", clock(left))).unwrap_or_default();
    let block = block(format!(" epoch {} of {} ", state.epoch + 1, state.epochs))
        .title_top(Line::raw(format!(" {} so far{left} ", clock(now))).right_aligned());
    let label = format!("{} of {} samples", state.done, state.samples);
    let gauge = Gauge::default().block(block).gauge_style(Style::new().fg(TRAIN).bg(Color::Black));
    frame.render_widget(gauge.ratio(state.share()).label(label), area);
}

fn draw_numbers(state: &State, now: Duration, frame: &mut Frame<'_>, area: Rect) {
    let bold = |text: String| Span::styled(text, Style::new().add_modifier(Modifier::BOLD));
    let shown = |number: Option<f64>| number.map_or("-".to_owned(), short);
    let mut line = vec![Span::raw(" loss "), bold(shown(state.loss.last()))];
    if let (Some(last), Some(best)) = (state.accuracy.last(), state.best) {
        line.extend([
            Span::raw("   accuracy "),
            bold(format!("{last:.2} %")),
            Span::raw(format!(" (best {best:.2} %)")),
        ]);
    }
    line.extend([Span::raw("   lr "), bold(shown(state.lr))]);
    let pace = match state.pace() {
        Some((rate, waited)) => {
            let color = if waited > 0.1 { Color::Red } else { Color::Reset };
            vec![
                bold(format!(" {rate:.0}")),
                Span::raw(" samples/s   waits for data "),
                bold(format!("{:.0} %", 100.0 * waited)).fg(color),
                Span::raw(" of the time"),
            ]
        }
        None => vec![Span::raw(format!(" waiting for the first batch since {}", clock(now)))],
    };
    frame.render_widget(Paragraph::new(vec![Line::from(line), Line::from(pace)]), area);
}

fn draw_events(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let rows = usize::from(area.height.saturating_sub(2));
    let from = state.events.len().saturating_sub(rows);
    let event = |(at, text): &(Duration, String)| {
        Line::from(vec![Span::styled(format!("{:>8}  ", clock(*at)), Style::new().fg(FAINT)), Span::raw(text.clone())])
    };
    let lines: Vec<_> = state.events.iter().skip(from).map(event).collect();
    frame.render_widget(Paragraph::new(lines).block(block(format!(" {} ", state.title))), area);
}

fn block<'a>(title: impl Into<Line<'a>>) -> Block<'a> {
    Block::bordered().border_type(BorderType::Rounded).border_style(Style::new().fg(FAINT)).title_top(title)
}

/// Three or four digits that matter.
fn short(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        ..0.001 | 1e5.. => format!("{number:.1e}"),
        ..1.0 => format!("{number:.4}"),
        ..100.0 => format!("{number:.2}"),
        _ => format!("{number:.0}"),
    }
}

/// `1:02:03`, or `2:03` within the first hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::metrics::Score;

    fn check(state: &State, width: u16, height: u16, expected: Expect) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| draw(state, Duration::from_secs(100), frame)).expect("it can be drawn");
        let screen = terminal.backend().to_string();
        let rows: Vec<_> = screen.lines().map(|row| row.trim_matches('"').trim_end()).collect();
        expected.assert_eq(&(rows.join("\n") + "\n"));
    }

    fn state() -> State {
        let mut state = State::new("669706 parameters on stream train, cpu".to_owned(), 3);
        for epoch in 0..2 {
            state.begin_epoch(epoch, 0, 1000);
            for step in 0..if epoch == 0 { 10 } else { 5 } {
                let at = Duration::from_secs(10 * epoch + step + 1);
                state.advance(100, at / 20, at);
                let place = state.place();
                state.step(2.0 / (1.0 + place * 4.0), 0.001, place);
            }
            if epoch == 0 {
                state.tested(Score { accuracy: Some(0.75), loss: 0.5, mae: None, rmse: None });
                state.event("Epoch 0: loss 1.2345", Duration::from_secs(10));
                state.event("Saved the model", Duration::from_secs(11));
            }
        }
        state
    }

    #[test]
    fn a_training_looks_like_this() {
        check(
            &state(),
            80,
            24,
            expect![[r#"
                ╭ loss ──────────────────────── - train - test ╮╭ accuracy, % ───────── - test ╮
                │1.49  │  ⠐⡄                                   ││78.8│                         │
                │      │   ⠘⢄                                  ││    │                         │
                │      │    ⠈⠢⡀                                ││    │                         │
                │      │      ⠈⠢⣀                              ││    │                         │
                │0.8571│         ⠑⠢⢄⡀                          ││75.0│⠁                        │
                │      │            ⠈⠉⠒⠤⢄⡀                     ││    │                         │
                │      │                 ⠈⠉⠑⠒⠒⠤⠤⢄⠈⣀            ││    │                         │
                │0.2286│                           ⠉⠉⠉⠉⠉⠑⠒⠒⠒⠒⠢⠤││71.2│                         │
                │      └───────────────────────────────────────││    └─────────────────────────│
                │      0                            1.50 epochs││ 1.00              1.50 epochs│
                ╰──────────────────────────────────────────────╯╰──────────────────────────────╯
                ╭ epoch 2 of 3 ────────────────────────────────── 1:40 so far, about 1:40 left ╮
                │█████████████████████████████500 of 1000 samples                              │
                ╰──────────────────────────────────────────────────────────────────────────────╯
                 loss 0.2857   accuracy 75.00 % (best 75.00 %)   lr 0.0010
                 100 samples/s   waits for data 5 % of the time
                ╭ 669706 parameters on stream train, cpu ──────────────────────────────────────╮
                │    0:10  Epoch 0: loss 1.2345                                                │
                │    0:11  Saved the model                                                     │
                │                                                                              │
                │                                                                              │
                ╰──────────────────────────────────────────────────────────────────────────────╯
                 q stop   l log scale
            "#]],
        );
    }

    #[test]
    fn before_the_first_batch_there_is_little_to_see() {
        check(
            &State::new(String::new(), 1),
            60,
            12,
            expect![[r#"
                ╭ loss ─────────────────────────────────────────────────── ╮
                │1.05   │                                                  │
                │0.50000│                                                  │
                │       └──────────────────────────────────────────────────│
                │       0                                     0.0100 epochs│
                ╰──────────────────────────────────────────────────────────╯
                ╭ epoch 1 of 1 ─────────────────────────────── 1:40 so far ╮
                │                      0 of 0 samples                      │
                ╰──────────────────────────────────────────────────────────╯
                 loss -   lr -
                 waiting for the first batch since 1:40
                 q stop   l log scale
            "#]],
        );
    }

    #[test]
    fn any_size_of_terminal_will_do() {
        for (width, height) in [(1, 1), (10, 3), (20, 40), (300, 5), (200, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
            let mut state = state();
            state.log_scale = true;
            terminal.draw(|frame| draw(&state, Duration::ZERO, frame)).expect("it can be drawn");
        }
    }

    #[test]
    fn the_log_scale_says_what_the_loss_is() {
        let screen = |log_scale| {
            let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("a terminal");
            let mut state = state();
            state.log_scale = log_scale;
            terminal.draw(|frame| draw(&state, Duration::ZERO, frame)).expect("it can be drawn");
            terminal.backend().to_string()
        };
        assert!(screen(true).contains("loss, log") && !screen(false).contains("loss, log"));
        assert_ne!(screen(true), screen(false));
    }
}
