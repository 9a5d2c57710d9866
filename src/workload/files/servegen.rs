//! `ServeGen`'s files: how the clients of a service behave, or how its rate moves, in windows of
//! ten minutes.
//!
//! A client's window gives its rate and the shape of its gaps; the gaps are scaled to the rate,
//! since the fitted scale does not always mean the measured rate. A file of rates is one Poisson
//! stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lines::{Columns, Lines, decimal, number, split};
use super::wishes::{Rate, Wishes};
use super::{OpenFile, line_at, placed};
use crate::base::Span;
use crate::config::Problems;
use crate::workload::arrivals::Arrivals;
use crate::workload::lengths::{Binned, Lengths};
use crate::workload::spec::{
    ARRIVAL_MAX, CLIENTS_MAX, ClientSpec, FileDigest, Prompt, RATE_MAX, Window, WindowOwn,
};

/// The length of a window in microseconds.
const WINDOW_US: u64 = 600_000_000;

/// A window of one client.
struct Stretch {
    start_us: u64,
    /// Requests per second; above 0.
    rate: f64,
    /// The law of gaps.
    arrivals: Arrivals,
}

/// Who comes how often, in the slice that was wished for.
pub(super) struct Loads {
    /// By client.
    clients: BTreeMap<u32, Vec<Stretch>>,
    /// Whether the file is about clients, or about the whole.
    named: bool,
    /// The slice in the time of the file, in microseconds.
    slice: (u64, u64),
    time_scale: f64,
    rate_scale: f64,
}

/// Prompt and answer lengths.
pub(super) struct TokenLengths {
    prompt: Lengths,
    output: Lengths,
}

/// Reads a file of clients or rates that begins with `first`.
pub(super) fn read(
    first: &str,
    lines: &mut Lines,
    wishes: &Wishes,
    problems: &mut Problems,
) -> Option<Loads> {
    let columns = Columns::of(first);
    let named = columns.find("client").is_some();
    let places = if named {
        columns.all(["t_s", "rate_rps", "client", "pattern", "p1"])
    } else {
        columns.all(["t_s", "total_rate_rps"]).map(|[time, rate]| [time, rate, 0, 0, 0])
    };
    let file = lines.digest().file;
    let places = match places {
        Ok(places) => places,
        Err(reason) => {
            placed(&file, problems, |problems| {
                problems.error(line_at(lines.number()), reason);
            });
            return None;
        }
    };
    let mut clients: BTreeMap<u32, Vec<Stretch>> = BTreeMap::new();
    lines.rows(problems, |line, _| {
        let mut fields = Vec::new();
        split(line, &mut fields);
        let (client, stretch) = row(&fields, places, named)?;
        if stretch.rate > 0.0 {
            clients.entry(client).or_default().push(stretch);
        }
        if clients.len() > CLIENTS_MAX {
            return Err(format!("a workload has from 1 to {CLIENTS_MAX} clients"));
        }
        Ok(())
    })?;
    for stretches in clients.values_mut() {
        stretches.sort_by_key(|stretch| stretch.start_us);
        let twice =
            stretches.windows(2).find(|pair| pair[1].start_us < pair[0].start_us + WINDOW_US);
        if let Some(pair) = twice {
            let at = pair[1].start_us / 1_000_000;
            let message = format!("two windows of one client overlap at {at} s in `{file}`");
            problems.error(wishes.at, message).label("windows last ten minutes");
            return None;
        }
    }
    Loads::new(clients, named, wishes, problems)
}

fn row(
    fields: &[std::borrow::Cow<'_, str>],
    [time, rate, client, pattern, shape]: [usize; 5],
    named: bool,
) -> Result<(u32, Stretch), String> {
    let at = |column: usize| {
        let field = fields.get(column).map(AsRef::as_ref);
        field.ok_or_else(|| format!("this row has only {} fields", fields.len()))
    };
    let start_us = number::<u64>(at(time)?, "t_s")?.saturating_mul(1_000_000);
    let rate = decimal(at(rate)?, if named { "rate_rps" } else { "total_rate_rps" })?;
    if rate > RATE_MAX {
        return Err(format!("a rate is at most {RATE_MAX} requests/s"));
    }
    if !named {
        return Ok((0, Stretch { start_us, rate, arrivals: Arrivals::Poisson }));
    }
    let shape = decimal(at(shape)?, "p1")?;
    let arrivals = match at(pattern)? {
        "Gamma" => Arrivals::GammaShape { shape: shape.clamp(0.01, 1e6) },
        "Weibull" => Arrivals::WeibullShape { shape: shape.clamp(0.1, 1e6) },
        other => return Err(format!("`pattern` must be `Gamma` or `Weibull`, not `{other}`")),
    };
    Ok((number(at(client)?, "client")?, Stretch { start_us, rate, arrivals }))
}

impl Loads {
    fn new(
        clients: BTreeMap<u32, Vec<Stretch>>,
        named: bool,
        wishes: &Wishes,
        problems: &mut Problems,
    ) -> Option<Self> {
        let start = wishes.start.as_us();
        let last = clients.values().filter_map(|stretches| stretches.last());
        let last = last.map(|stretch| stretch.start_us + WINDOW_US).max().unwrap_or(0);
        let stop = wishes.duration.map_or(last, |duration| start + duration.as_us());
        let time_scale = wishes.time_scale;
        let mut loads = Self { clients, named, slice: (start, stop), time_scale, rate_scale: 1.0 };
        let requests: f64 = loads.clients.values().map(|client| loads.requests(client)).sum();
        if requests <= 0.0 {
            let message = format!("no request of `{}` lies in this slice", wishes.file);
            let label = format!("it lasts {} s", last / 1_000_000);
            problems.error(wishes.at, message).label(label);
            return None;
        }
        if loads.end() >= ARRIVAL_MAX {
            let message = format!("`{}` lasts longer than the simulated clock", wishes.file);
            let label = format!("at most {} days", ARRIVAL_MAX.as_us() / 86_400_000_000);
            problems.error(wishes.at, message).label(label).hint("give `duration` in `trace`");
            return None;
        }
        loads.rate_scale = match wishes.rate {
            // Faster clocks alone would bring more requests a second.
            Rate::Scale(scale) => scale / time_scale,
            Rate::Mean(rate) => rate * loads.end().as_secs() / requests / time_scale,
        };
        Some(loads)
    }

    /// When arrivals end, in the time of the run.
    pub fn end(&self) -> Span {
        Span::from_us(self.time(self.slice.1))
    }

    /// A moment of the file in the time of the run.
    fn time(&self, us: u64) -> u64 {
        let (start, stop) = self.slice;
        ((us.clamp(start, stop) - start) as f64 * self.time_scale).round() as u64
    }

    /// How many requests of a client lie in the slice on average, at the recorded rate.
    fn requests(&self, client: &[Stretch]) -> f64 {
        let (start, stop) = self.slice;
        let inside = |stretch: &Stretch| {
            let end = (stretch.start_us + WINDOW_US).min(stop);
            end.saturating_sub(stretch.start_us.max(start)) as f64 / 1e6
        };
        client.iter().map(|stretch| stretch.rate * inside(stretch)).sum()
    }

    /// The clients with their nominal rates: the mean over the time in which they are active.
    pub fn clients(&self, wishes: &Wishes, lengths: &TokenLengths) -> Vec<(f64, ClientSpec)> {
        let client = |(&id, stretches): (&u32, &Vec<Stretch>)| {
            let (mut windows, mut active_s, mut requests) = (Vec::new(), 0.0, 0.0);
            for stretch in stretches {
                let start = Span::from_us(self.time(stretch.start_us));
                let end = Span::from_us(self.time(stretch.start_us + WINDOW_US));
                if start < end {
                    let rate = stretch.rate * self.rate_scale;
                    active_s += (end - start).as_secs();
                    requests += rate * (end - start).as_secs();
                    windows.push(Window {
                        rate,
                        own: self.law(stretch),
                        ..Window::new(start, end)
                    });
                }
            }
            let nominal = requests / active_s;
            for window in &mut windows {
                window.rate /= nominal;
            }
            let name = if self.named { format!("client-{id}") } else { "rates".to_owned() };
            let spec = ClientSpec {
                name,
                tenant: wishes.tenant.clone(),
                slo_class: wishes.slo_class.clone(),
                prompt: Prompt::Text(lengths.prompt.clone()),
                output: lengths.output.clone(),
                windows,
                ..ClientSpec::default()
            };
            Some((nominal, spec)).filter(|(_, spec)| !spec.windows.is_empty())
        };
        self.clients.iter().filter_map(client).collect()
    }

    fn law(&self, stretch: &Stretch) -> Option<Arc<WindowOwn>> {
        let arrivals = Some(stretch.arrivals.clone());
        self.named.then(|| Arc::new(WindowOwn { arrivals, ..WindowOwn::default() }))
    }
}

/// The lengths of a file's requests: those that the workload gives, or a histogram beside it.
pub(super) fn read_lengths(
    wishes: &Wishes,
    open: OpenFile<'_>,
    files: &mut Vec<FileDigest>,
    problems: &mut Problems,
) -> Option<TokenLengths> {
    let (mut prompt, mut output) = (wishes.prompt.clone(), wishes.output.clone());
    if let Some(named) = &wishes.lengths {
        let mut lines = Lines::open(&named.file, named.at, open, problems)?;
        let (prompts, outputs) = read_histograms(&mut lines, problems)?;
        files.push(lines.digest());
        prompt = prompt.or(Some(Lengths::Binned(prompts)));
        output = output.or(Some(Lengths::Binned(outputs)));
    }
    let (Some(prompt), Some(output)) = (prompt, output) else {
        problems
            .error(wishes.at, format!("`{}` says nothing about lengths", wishes.file))
            .label("ServeGen keeps them in a file of their own")
            .hint("give `lengths: <file>` or `prompt_tokens` and `output_tokens`");
        return None;
    };
    Some(TokenLengths { prompt, output })
}

fn read_histograms(lines: &mut Lines, problems: &mut Problems) -> Option<(Binned, Binned)> {
    let header = lines.first(problems)?;
    let file = lines.digest().file;
    let number = lines.number();
    let wrong = |reason: String, problems: &mut Problems| {
        placed(&file, problems, |problems| {
            problems.error(line_at(number), reason);
        });
    };
    let [field, tokens, cdf] = match Columns::of(&header).all(["field", "tokens_le", "cdf"]) {
        Ok(places) => places,
        Err(reason) => {
            wrong(reason, problems);
            return None;
        }
    };
    let (mut prompts, mut outputs) = (Vec::new(), Vec::new());
    lines.rows(problems, |line, _| {
        let mut fields = Vec::new();
        split(line, &mut fields);
        let at = |column: usize| {
            let field = fields.get(column).map(AsRef::as_ref);
            field.ok_or_else(|| format!("this row has only {} fields", fields.len()))
        };
        let knot = (decimal(at(tokens)?, "tokens_le")?, decimal(at(cdf)?, "cdf")?);
        match at(field)? {
            "input_tokens" => prompts.push(knot),
            "output_tokens" => outputs.push(knot),
            other => {
                return Err(format!(
                    "`field` must be input_tokens or output_tokens, not `{other}`"
                ));
            }
        }
        Ok(())
    })?;
    let histograms = Binned::from_cdf(&prompts).zip(Binned::from_cdf(&outputs));
    if histograms.is_none() {
        let reason = "`input_tokens` and `output_tokens` need ascending lengths and shares";
        wrong(reason.to_owned(), problems);
    }
    histograms
}
