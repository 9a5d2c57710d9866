//! One line per request of a run.

use super::number::exact;
use crate::base::RequestId;
use crate::sim::Outcome;
use crate::sim::outcome::{RequestRecord, RequestState};
use crate::workload::Trace;

const HEADER: &str = "request,client,class,tenant,state,instance,arrival_s,input_tokens,\
                      output_tokens,scheduling_delay_ms,ttft_ms,e2e_ms,preemptions\n";

/// The requests of a run that kept its records, in order of id; empty cells where something did
/// not happen.
pub fn requests_csv(trace: &Trace, outcome: &Outcome) -> String {
    let mut text = HEADER.to_owned();
    for (index, record) in outcome.requests.iter().enumerate() {
        text.push_str(&line(trace, RequestId::new(index), record));
    }
    text
}

fn line(trace: &Trace, id: RequestId, record: &RequestRecord) -> String {
    let index = id.index();
    // Requests of closed loops are in no trace, and requests that never came in no record.
    let (client, input, output) = match trace.client.get(index) {
        Some(&client) => (client, trace.input[index], trace.output[index]),
        None => (record.client, record.input, record.output),
    };
    let client = &trace.clients[client.index()];
    let ms = |us: u64| {
        if us == RequestRecord::NEVER_US { String::new() } else { exact(us as f64 / 1e3) }
    };
    let arrival = match record.arrival_us {
        RequestRecord::NEVER_US => String::new(),
        us => exact(us as f64 / 1e6),
    };
    let delay = match (record.first_scheduled_us, record.arrival_us) {
        (RequestRecord::NEVER_US, _) | (_, RequestRecord::NEVER_US) => String::new(),
        (scheduled, arrival) => ms(scheduled - arrival),
    };
    let cells = [
        index.to_string(),
        client.name.clone(),
        trace.classes[usize::from(client.class)].clone(),
        trace.tenants[usize::from(client.tenant)].clone(),
        state(record.state).to_owned(),
        record.instance.map_or(String::new(), |instance| instance.0.to_string()),
        arrival,
        input.to_string(),
        output.to_string(),
        delay,
        ms(record.ttft_us),
        ms(record.e2e_us),
        record.preemptions.to_string(),
    ];
    let cells: Vec<String> = cells.iter().map(|cell| super::table::quote(cell)).collect();
    cells.join(",") + "\n"
}

const fn state(state: RequestState) -> &'static str {
    match state {
        RequestState::Pending => "pending",
        RequestState::Queued => "queued",
        RequestState::Running => "running",
        RequestState::Completed => "completed",
        RequestState::Rejected => "rejected",
        RequestState::Expired => "expired",
        RequestState::Dropped => "dropped",
        RequestState::TimedOut => "timed-out",
        RequestState::Failed => "failed",
    }
}
