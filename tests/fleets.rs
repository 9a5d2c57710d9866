//! Fleets that change, computed by hand: each file of `tests/data/fleets` says what happens and
//! why. Both simulators must give exactly that.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use blis_opt::base::{ClientId, SimTime, Span};
use blis_opt::config::{DAY, Defaults, Fields, Node, Problems, parse, read_text};
use blis_opt::policy::{PolicyBundle, read_bundle};
use blis_opt::scenario::{Conditions, Setting, read_scenario};
use blis_opt::sim::fleet_outcome::{FleetEvent, Happening, Interval, StateTime};
use blis_opt::sim::outcome::{GatewayOutcome, RequestRecord, RequestState};
use blis_opt::sim::{FleetOutcome, Outcome, RunOptions, Scratch, reference, simulate_under};
use blis_opt::workload::{ClientInfo, NO_CHAIN, Request, Trace};

/// One file.
struct Case {
    bundle: PolicyBundle,
    trace: Trace,
    conditions: Conditions,
    options: RunOptions,
    expected: Story,
}

/// What a run tells, in words.
#[derive(Debug, Default, PartialEq)]
struct Story {
    requests: Vec<String>,
    events: Vec<String>,
    timeline: Vec<String>,
    end: String,
    retries: u64,
    wasted_tokens: u64,
    bill: String,
    gateway: String,
}

#[test]
fn fleets_do_what_was_computed_by_hand() {
    let files = files();
    assert!(files.len() >= 13, "{files:?}");
    for file in files {
        let name = file.display();
        let Case { bundle, trace, conditions, options, expected } = &read(&file);
        let fast = simulate_under(bundle, trace, conditions, options, &mut Scratch::default());
        assert_eq!(&story(bundle, &fast), expected, "{name}: the fast one");
        let slow = reference::simulate_under(bundle, trace, conditions, options);
        assert_eq!(&story(bundle, &slow), expected, "{name}: the slow one");
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fleets");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn read(file: &Path) -> Case {
    let text = std::fs::read_to_string(file).expect("readable");
    let name = file.display().to_string();
    let mut problems = Problems::new();
    let node = parse(&name, &text, &mut problems);
    let case = node.and_then(|node| read_case(&node, &mut problems));
    assert!(problems.is_empty(), "{}", problems.render(false));
    case.expect("no problem")
}

fn read_case(node: &Node, problems: &mut Problems) -> Option<Case> {
    let mut fields = Fields::of(node, "a fleet", problems)?;
    let policy = fields.required("policy")?;
    let bundle = read_bundle(policy, Defaults::embedded(), fields.problems())?;
    let scenario = fields.required("scenario")?;
    let scenario = read_scenario(scenario, "the scenario", None, fields.problems())?;
    let end = fields.span("end", DAY)?;
    let timeline = fields.span("timeline", DAY);
    let requests = fields.list("requests")?;
    let trace = read_trace(requests, end, fields.problems())?;
    let expected = read_story(fields.required("expect")?, fields.problems())?;
    fields.finish();
    let conditions = scenario.conditions(1, &Setting { end: trace.end, ..Setting::default() });
    let options = RunOptions {
        warm_up: SimTime::ZERO,
        horizon: SimTime::NEVER,
        keep_requests: true,
        keep_steps: false,
        timeline,
    };
    Some(Case { bundle, trace, conditions, options, expected })
}

fn read_trace(requests: &[Node], end: Span, problems: &mut Problems) -> Option<Trace> {
    let client = ClientInfo {
        name: "client".into(),
        class: 0,
        tenant: 0,
        think_time: Span::ZERO,
        pinned: None,
    };
    let mut trace = Trace {
        clients: vec![client],
        classes: vec!["default".into()],
        tenants: vec!["tenant".into()],
        end: SimTime::ZERO + end,
        ..Trace::default()
    };
    for request in requests {
        let mut fields = Fields::of(request, "a request", problems)?;
        let arrival = SimTime::ZERO + fields.span("at", DAY)?;
        let (input, output) = (fields.u32("prompt", 1..=9999)?, fields.u32("answer", 0..=9999)?);
        fields.finish();
        let (client, chain) = (ClientId(0), NO_CHAIN);
        trace.push(Request { arrival, input, output, client, chain, shared: 0 });
    }
    Some(trace)
}

fn read_story(node: &Node, problems: &mut Problems) -> Option<Story> {
    let mut fields = Fields::of(node, "what is expected", problems)?;
    let mut lines = |key: &'static str| -> Option<Vec<String>> {
        let items = fields.list(key).unwrap_or_default();
        let texts = items.iter().map(|item| read_text(item, key, fields.problems()));
        texts.map(|text| text.map(str::to_owned)).collect()
    };
    let story = Story {
        requests: lines("requests")?,
        events: lines("events")?,
        timeline: lines("timeline")?,
        end: seconds((SimTime::ZERO + fields.span("end", DAY)?).as_us()),
        retries: fields.u64("retries", 0..=99).unwrap_or(0),
        wasted_tokens: fields.u64("wasted_tokens", 0..=9999).unwrap_or(0),
        bill: fields.text("bill")?.to_owned(),
        gateway: fields.text("gateway").unwrap_or_default().to_owned(),
    };
    fields.finish();
    Some(story)
}

fn story(bundle: &PolicyBundle, outcome: &Outcome) -> Story {
    let requests = outcome.requests.iter().map(request_in_words).collect();
    // Where nothing can change there is no fleet; its bill is that of its instances.
    let Some(fleet) = &outcome.fleet else { return Story { requests, ..Story::default() } };
    Story {
        requests,
        events: fleet.events.iter().map(event_in_words).collect(),
        timeline: fleet.timeline.iter().map(|at| interval_in_words(bundle, at)).collect(),
        end: seconds(fleet.end.as_us()),
        retries: fleet.retries,
        wasted_tokens: fleet.wasted_tokens,
        bill: bill_in_words(bundle, fleet),
        gateway: outcome.gateway.as_ref().map_or(String::new(), gateway_in_words),
    }
}

fn seconds(us: u64) -> String {
    format!("{} s", us as f64 / 1e6)
}

fn request_in_words(record: &RequestRecord) -> String {
    let mut words = vec![match record.state {
        RequestState::TimedOut => "timed out".to_owned(),
        state => format!("{state:?}").to_lowercase(),
    }];
    if let Some(instance) = record.instance {
        words.push(format!(" on {}", instance.0));
    }
    let times = [
        (" at", record.finished_us),
        (", first token after", record.ttft_us),
        (", last after", record.e2e_us),
    ];
    for (what, us) in times {
        if us != RequestRecord::NEVER_US {
            words.push(format!("{what} {}", seconds(us)));
        }
    }
    if record.retries > 0 {
        words.push(format!(", {} retries", record.retries));
    }
    words.concat()
}

fn event_in_words(event: &FleetEvent) -> String {
    let (what, count) = match event.what {
        Happening::ScaleUp { count, .. } => ("scale up", Some(format!(" {count}"))),
        Happening::ScaleDown { count, .. } => ("scale down", Some(format!(" {count}"))),
        Happening::Launched => ("launched", None),
        Happening::NoCapacity => ("no capacity", None),
        Happening::Ready => ("ready", None),
        Happening::Draining => ("draining", None),
        Happening::Terminated => ("terminated", None),
        Happening::Crashed { .. } => ("crashed", None),
        Happening::Noticed { lost } => ("noticed", Some(format!(", {lost} lost"))),
        Happening::Slowed { .. } => ("slowed", None),
        Happening::Recovered => ("recovered", None),
        Happening::ZoneOut { .. } => ("zone out", None),
        Happening::ZoneLost { lost } => ("zone lost", Some(format!(", {lost} lost"))),
        Happening::Reclaim { .. } => ("reclaim", None),
        Happening::Noted => ("noted", None),
        Happening::Reclaimed { lost } => ("reclaimed", Some(format!(", {lost} lost"))),
        Happening::CapacityBack => ("capacity back", None),
        Happening::OutOfRotation { ailment } => ("out of rotation", Some(format!(": {ailment}"))),
        Happening::BackInRotation => ("back in rotation", None),
    };
    let mut words = vec![format!("{} {what}", seconds(event.at.as_us()))];
    if let Some(instance) = event.instance {
        words.push(format!(" {}", instance.0));
    }
    words.extend(count);
    if let (Some(pool), None) = (event.pool, event.instance) {
        words.push(format!(", pool {pool}"));
    }
    words.concat()
}

fn interval_in_words(bundle: &PolicyBundle, interval: &Interval) -> String {
    let Interval { completed, refused, retries, waiting, running, .. } = interval;
    let arrived: u32 = interval.arrived.iter().sum();
    let mut words = format!(
        "arrived {arrived}, completed {completed}, refused {refused}, retries {retries}, \
         waiting {waiting}, running {running}"
    );
    for (pool, &StateTime { starting, ready, draining, down }) in
        bundle.pools.iter().zip(&interval.states)
    {
        let states =
            [("starting", starting), ("ready", ready), ("draining", draining), ("down", down)];
        let told = states.iter().filter(|(_, ps)| *ps > 0);
        let told: Vec<String> =
            told.map(|(name, ps)| format!(" {name} {}", seconds(ps / 1_000_000))).collect();
        write!(words, "; {}{}", pool.name, told.join(",")).expect("text takes all");
    }
    words
}

/// What happened at the gateway; nothing where nothing did.
fn gateway_in_words(gateway: &GatewayOutcome) -> String {
    let mut words = String::new();
    let others = [
        ("full", gateway.full),
        ("displaced", gateway.displaced),
        ("expired", gateway.expired),
        ("capped", gateway.capped),
    ];
    for (what, times) in gateway.shed.iter().copied().chain(others) {
        if times > 0 {
            write!(words, "{what} {times}, ").expect("text takes all");
        }
    }
    let (count, longest) = (gateway.wait.count, gateway.wait.max_ms);
    format!("{words}waited {} of {count} for {longest} ms at most", gateway.waited)
}

fn bill_in_words(bundle: &PolicyBundle, fleet: &FleetOutcome) -> String {
    let mut words = String::new();
    let mut dollars = 0.0;
    for (pool, outcome) in bundle.pools.iter().zip(&fleet.pools) {
        let paid_s = outcome.paid_ps as f64 / 1e12;
        dollars += paid_s / 3600.0 * pool.instance_cost_per_hour();
        write!(words, "{} {paid_s} s, ", pool.name).expect("text takes all");
    }
    format!("{words}${dollars:.4}")
}
