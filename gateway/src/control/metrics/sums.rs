//! Counters that requests add to: what a batch of reports comes to is summed up first and told once, since a counter that other
//! threads may read costs more with each addition.

use metrics::Counter;

/// Counters and what they have not been told yet.
#[derive(Default)]
pub(super) struct Sums {
    all: Vec<Sum>,
    /// Those that have something to be told.
    touched: Vec<Place>,
}

struct Sum {
    counter: Counter,
    untold: u64,
}

/// Where a counter is among [`Sums`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u32);

/// Counters of one kind, by their labels. They are few, so that looking through them costs less than hashing.
pub(super) struct ByLabels<L>(Vec<(L, Place)>);

impl Sums {
    /// With one more counter.
    pub(super) fn place(&mut self, counter: Counter) -> Place {
        self.all.push(Sum { counter, untold: 0 });
        Place(self.all.len() as u32 - 1)
    }

    #[inline]
    pub(super) fn add(&mut self, place: Place, number: u64) {
        if number == 0 {
            return;
        }
        let sum = &mut self.all[place.0 as usize];
        if sum.untold == 0 {
            self.touched.push(place);
        }
        // Providers state what they like to have used, and a batch of that can be more than there are numbers: a counter goes on
        // from zero then, as the one that is told does.
        sum.untold = sum.untold.wrapping_add(number);
    }

    /// Tells the counters what has been added.
    pub(super) fn tell(&mut self) {
        for place in self.touched.drain(..) {
            let sum = &mut self.all[place.0 as usize];
            sum.counter.increment(std::mem::take(&mut sum.untold));
        }
    }
}

impl<L> Default for ByLabels<L> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<L: PartialEq> ByLabels<L> {
    /// The place of the counter with these labels, which is made if there is none yet.
    #[inline]
    pub(super) fn place(
        &mut self,
        labels: L,
        sums: &mut Sums,
        counter: impl FnOnce() -> Counter,
    ) -> Place {
        if let Some((_, place)) = self.0.iter().find(|(known, _)| *known == labels) {
            return *place;
        }
        let place = sums.place(counter());
        self.0.push((labels, place));
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics::CounterFn;
    use std::sync::{Arc, Mutex};

    /// What it was told, one after the other.
    #[derive(Default)]
    struct Told(Mutex<Vec<u64>>);

    impl CounterFn for Told {
        fn increment(&self, value: u64) {
            self.0.lock().unwrap().push(value);
        }

        fn absolute(&self, _: u64) {
            panic!("not asked for");
        }
    }

    #[test]
    fn a_counter_is_told_once_what_a_batch_comes_to() {
        let told: [Arc<Told>; 3] = Default::default();
        let mut sums = Sums::default();
        let mut by_labels = ByLabels::default();
        for (label, number) in [(0, 1), (1, 5), (0, 2), (2, 0)] {
            let counter = || Counter::from_arc(told[label].clone());
            let place = by_labels.place(label, &mut sums, counter);
            sums.add(place, number);
        }
        sums.tell();
        sums.tell();
        let again = by_labels.place(1, &mut sums, || panic!("it is there"));
        sums.add(again, 7);
        sums.tell();
        let told = told.map(|told| told.0.lock().unwrap().clone());
        assert_eq!(told, [vec![3], vec![5, 7], vec![]]);
    }

    #[test]
    fn a_batch_of_absurd_numbers_goes_on_from_zero() {
        let told = Arc::new(Told::default());
        let mut sums = Sums::default();
        let place = sums.place(Counter::from_arc(told.clone()));
        for number in [u64::MAX, 3, 5] {
            sums.add(place, number);
        }
        sums.tell();
        assert_eq!(*told.0.lock().unwrap(), [7]);
    }
}
