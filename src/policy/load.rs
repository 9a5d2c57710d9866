//! How many requests each instance has, and which has fewest.

use std::ops::Deref;

/// Instances that share a minimum.
const GROUP: usize = 32;
/// Marks the count of an instance that takes no requests: more than any that does.
const CLOSED: u32 = 1 << 31;

/// Requests waiting, in the batch or on the way, by instance. Finding the least loaded costs
/// time per group of 32 instances, not per instance. The counts seen as a slice are those of open
/// instances; closed ones have a mark that makes them larger than any other.
#[derive(Clone, Debug, Default)]
pub struct Load {
    values: Vec<u32>,
    /// The least value of each group.
    least: Vec<u32>,
}

impl Load {
    /// `instances` instances without requests.
    pub fn reset(&mut self, instances: usize) {
        self.values.clear();
        self.values.resize(instances, 0);
        self.least.clear();
        self.least.resize(instances.div_ceil(GROUP), 0);
    }

    /// One more request on `instance`.
    pub fn add(&mut self, instance: usize) {
        let group = instance / GROUP;
        let was = self.values[instance];
        self.values[instance] = was + 1;
        if was == self.least[group] {
            let end = self.values.len().min((group + 1) * GROUP);
            self.least[group] = least_of(&self.values[group * GROUP..end]);
        }
    }

    /// One request less on `instance`.
    pub fn remove(&mut self, instance: usize) {
        self.values[instance] -= 1;
        let least = &mut self.least[instance / GROUP];
        *least = (*least).min(self.values[instance]);
    }

    /// The requests of `instance`, open or closed.
    pub fn count(&self, instance: usize) -> u32 {
        self.values[instance] & !CLOSED
    }

    /// Opens or closes `instance`.
    pub fn set_open(&mut self, instance: usize, open: bool) {
        let count = self.count(instance);
        self.values[instance] = if open { count } else { count | CLOSED };
        let group = instance / GROUP;
        let end = self.values.len().min((group + 1) * GROUP);
        self.least[group] = least_of(&self.values[group * GROUP..end]);
    }

    /// The open instance with the fewest requests; ties go to the lowest index. There is one.
    pub fn least_loaded(&self) -> usize {
        let least = least_of(&self.least);
        let group = self.least.iter().position(|&value| value == least).unwrap_or(0);
        let first = group * GROUP;
        let within = self.values[first..].iter().position(|&value| value == least);
        first + within.unwrap_or(0)
    }
}

impl From<&[u32]> for Load {
    fn from(values: &[u32]) -> Self {
        Self { values: values.to_vec(), least: values.chunks(GROUP).map(least_of).collect() }
    }
}

impl Deref for Load {
    type Target = [u32];
    fn deref(&self) -> &[u32] {
        &self.values
    }
}

fn least_of(values: &[u32]) -> u32 {
    values.iter().fold(u32::MAX, |least, &value| least.min(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Rng, Stream};

    #[test]
    fn the_least_loaded_is_the_first_minimum() {
        let mut rng = Rng::new(2, Stream::RouterTies, 0);
        for instances in [1, 31, 32, 33, 100] {
            let mut load = Load::default();
            load.reset(instances);
            for _ in 0..3000 {
                let instance = rng.below(instances as u64) as usize;
                if rng.below(2) == 0 && load[instance] > 0 {
                    load.remove(instance);
                } else {
                    load.add(instance);
                }
                let least = (0..instances).min_by_key(|&at| (load[at], at));
                assert_eq!(Some(load.least_loaded()), least);
            }
        }
    }

    #[test]
    fn closed_instances_keep_their_count_and_are_not_chosen() {
        let mut load = Load::default();
        load.reset(40);
        for instance in 0..39 {
            load.add(instance);
        }
        load.set_open(39, false);
        assert_eq!(load.least_loaded(), 0);
        load.set_open(0, false);
        load.add(0);
        load.remove(39 - 1);
        assert_eq!((load.count(0), load.least_loaded()), (2, 38));
        load.add(38);
        load.set_open(39, true);
        assert_eq!(load.least_loaded(), 39);
    }
}
