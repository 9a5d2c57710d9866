//! A fleet that follows the load of a day by rules, in closed form.

/// Hours of a day.
pub const HOURS: usize = 24;
/// From the order of an instance to its first request.
const START_UP_S: f64 = 150.0;
/// How much the load rises within minutes, as a share.
const BURST: f64 = 0.15;

/// The rules of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Never fewer instances.
    pub min: f64,
    /// Never more.
    pub max: f64,
    /// The utilization above which the fleet grows.
    pub above: f64,
    /// The utilization below which it shrinks.
    pub below: f64,
    /// Seconds between two looks at the fleet.
    pub interval_s: f64,
    /// For how long it must be above.
    pub up_for_s: f64,
    /// How many instances one order adds to a fleet of so many.
    pub step: Step,
    /// For how long it must be below.
    pub down_for_s: f64,
    /// From one removal to the next.
    pub cooldown_s: f64,
}

/// How many instances are ordered at once.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// So many.
    Count(f64),
    /// This share of the fleet.
    Share(f64),
}

/// A day under rules.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// Instances that are paid for, time average.
    pub instances: f64,
    /// Utilization by hour while nothing special happens.
    pub calm: [f64; HOURS],
    /// Utilization by hour while a burst waits for instances.
    pub burst: [f64; HOURS],
    /// The share of each hour that a burst waits for instances.
    pub waiting: [f64; HOURS],
    /// Orders per hour.
    pub events_per_hour: f64,
}

/// Demand in instances over a day: two humps of different height, `mean` on average.
pub fn demand(mean: f64, peak_hour: f64) -> [f64; HOURS] {
    let hump = |hour: f64, at: f64, width: f64| {
        let apart = (hour - at).abs();
        let apart = apart.min(24.0 - apart);
        (-(apart / width) * (apart / width)).exp()
    };
    let mut demand = std::array::from_fn(|hour| {
        let hour = hour as f64;
        0.35 + 1.3 * hump(hour, peak_hour, 4.0) + 0.7 * hump(hour, peak_hour + 7.0, 2.0)
    });
    let sum: f64 = demand.iter().sum();
    for value in &mut demand {
        *value *= mean * HOURS as f64 / sum;
    }
    demand
}

impl Rules {
    /// The day that follows from them.
    pub fn day(&self, demand: &[f64; HOURS]) -> Day {
        let fleet = self.fleet(demand);
        let mut day = Day {
            instances: 0.0,
            calm: [0.0; HOURS],
            burst: [0.0; HOURS],
            waiting: [0.0; HOURS],
            events_per_hour: 0.0,
        };
        let (mut wasted, mut orders) = (0.0, 0.0);
        for hour in 0..HOURS {
            let (size, before) = (fleet[hour], fleet[(hour + HOURS - 1) % HOURS]);
            let amount = match self.step {
                Step::Count(count) => count,
                Step::Share(share) => (share * size).max(1.0),
            };
            let rise = (demand[(hour + 1) % HOURS] - demand[hour]).max(0.0);
            // A burst is answered in as many rounds as its instances need.
            let needed = (BURST * demand[hour] + 0.5 * rise) / self.above;
            let rounds = (needed / amount).max(1.0);
            let round_s = self.interval_s + self.up_for_s;
            let reaction_s = 0.5 * self.interval_s + self.up_for_s + START_UP_S;
            let wait_s = reaction_s + (rounds - 1.0) * round_s;
            day.waiting[hour] = (wait_s / 3600.0).min(1.0);
            day.calm[hour] = demand[hour] / size;
            day.burst[hour] = (demand[hour] * (1.0 + BURST) + 0.3 * rise) / size;
            orders += (size - before).abs() / amount + needed.min(amount) / amount;
            // What an order brings beyond the need is paid until it may go again.
            let kept_h = (self.down_for_s + self.cooldown_s) / 3600.0;
            wasted += 0.5 * (amount - needed).max(0.0) * kept_h.min(1.0);
        }
        let gap = (self.above - self.below) / self.above;
        let cycle_s = self.interval_s + self.up_for_s + self.down_for_s + self.cooldown_s;
        // An added instance must not itself push the utilization below the lower threshold.
        let flaps = 3600.0 / cycle_s * (-(gap - 0.12) / 0.07).exp().min(20.0);
        // Who looks often and acts at once answers noise.
        let nervous = 6.0 * (-(0.5 * self.interval_s + self.up_for_s) / 20.0).exp();
        day.events_per_hour = orders / HOURS as f64 + flaps + nervous;
        let starting = day.events_per_hour * START_UP_S / 3600.0;
        day.instances = (fleet.iter().sum::<f64>() + wasted) / HOURS as f64 + starting;
        day
    }

    /// Instances by hour: it grows at once and shrinks at its own pace.
    fn fleet(&self, demand: &[f64; HOURS]) -> [f64; HOURS] {
        let pace_s = self.interval_s + 0.8 * self.down_for_s + self.cooldown_s;
        let lost_per_hour = 3600.0 / pace_s;
        let mut fleet = [self.max; HOURS];
        let mut size = self.max;
        // The second round forgets where the first began.
        for hour in (0..HOURS).chain(0..HOURS) {
            let (enough, too_many) = (demand[hour] / self.above, demand[hour] / self.below);
            let shrunk = too_many.min(size).max(size - lost_per_hour);
            // Where the bounds contradict each other the lower one counts.
            size = enough.max(shrunk).min(self.max).max(self.min);
            fleet[hour] = size;
        }
        fleet
    }
}

impl Day {
    /// The share of requests, weighted by `demand`, that `kept` keeps at a utilization.
    pub fn attainment(&self, demand: &[f64; HOURS], kept: impl Fn(f64) -> f64) -> f64 {
        let mut total = 0.0;
        for (hour, load) in demand.iter().enumerate() {
            let waiting = self.waiting[hour];
            let share = (1.0 - waiting) * kept(self.calm[hour]) + waiting * kept(self.burst[hour]);
            total += load * share;
        }
        total / demand.iter().sum::<f64>()
    }

    /// The tail over the day of a latency that `at` gives for a utilization: hours weigh the more
    /// the worse they are.
    pub fn tail(&self, demand: &[f64; HOURS], at: impl Fn(f64) -> f64) -> f64 {
        let total: f64 = demand.iter().sum();
        let mut sum = 0.0;
        for (hour, load) in demand.iter().enumerate() {
            let waiting = self.waiting[hour];
            let hard = (1.0 - waiting) * at(self.calm[hour]).powi(6)
                + waiting * at(self.burst[hour]).powi(6);
            sum += load / total * hard;
        }
        sum.powf(1.0 / 6.0)
    }
}

/// The share of requests in time at a utilization.
pub fn in_time(load: f64) -> f64 {
    1.0 / (1.0 + ((load - 1.02) / 0.035).exp())
}

/// The tail of a wait at a utilization, in units of its scale; smooth through 1.
pub fn wait(load: f64) -> f64 {
    let left = 0.03 * (1.0 + ((1.0 - load) / 0.03).exp()).ln();
    load.powi(5) / left.max(0.002)
}
