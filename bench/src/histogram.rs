//! A log-linear histogram: constant memory, exact to 1/64 at any magnitude.

/// Every power of two is cut into 2^6 buckets.
const SUB_BUCKET_BITS: u32 = 6;
const SUB_BUCKETS: usize = 1 << SUB_BUCKET_BITS;
const BUCKETS: usize = (64 - SUB_BUCKET_BITS as usize + 1) * SUB_BUCKETS;

/// Counts of values by magnitude.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        self.counts[bucket_of(value)] += 1;
        self.total += 1;
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The largest value, exactly.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all values do not exceed, rounded up to its bucket's end; 0 if there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return end_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    if value < SUB_BUCKETS as u64 {
        return value as usize;
    }
    let shift = u64::BITS - 1 - value.leading_zeros() - SUB_BUCKET_BITS;
    let within = (value >> shift) as usize - SUB_BUCKETS;
    (shift as usize + 1) * SUB_BUCKETS + within
}

fn end_of(bucket: usize) -> u64 {
    if bucket < SUB_BUCKETS {
        return bucket as u64;
    }
    let shift = bucket / SUB_BUCKETS - 1;
    let within = (SUB_BUCKETS + bucket % SUB_BUCKETS) as u64;
    (within << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_is_at_most_a_64th_wide() {
        let mut value = 1u64;
        while value < u64::MAX / 3 {
            for near in [value - 1, value, value + 1, value * 2 - 1] {
                let end = end_of(bucket_of(near));
                assert!(
                    end >= near && end - near <= near / 64,
                    "{near} ends at {end}"
                );
            }
            value = value * 3 / 2 + 1;
        }
        assert_eq!(end_of(bucket_of(u64::MAX)), u64::MAX);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_are_adjacent() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(end_of(bucket) + 1), bucket + 1);
        }
    }

    #[test]
    fn quantiles_are_by_rank() {
        let mut histogram = Histogram::default();
        for value in 1..=1_000 {
            histogram.record(value * 1_000);
        }
        let near = |share: f64, wanted: u64| {
            let got = histogram.quantile(share);
            assert!(
                got >= wanted && got <= wanted + wanted / 32,
                "{share}: {got} for {wanted}"
            );
        };
        near(0.5, 500_000);
        near(0.9, 900_000);
        near(0.99, 990_000);
        assert_eq!(histogram.quantile(1.0), 1_000_000);
        assert_eq!(histogram.max(), 1_000_000);
        assert_eq!(histogram.total(), 1_000);
    }

    #[test]
    fn one_outlier_is_the_maximum_and_not_the_median() {
        let mut histogram = Histogram::default();
        for _ in 0..999 {
            histogram.record(10);
        }
        histogram.record(5_000_000_000);
        assert_eq!(histogram.quantile(0.5), 10);
        assert_eq!(histogram.quantile(0.999), 10);
        assert_eq!(histogram.quantile(0.9999), 5_000_000_000);
    }

    #[test]
    fn empty_is_zero() {
        assert_eq!(Histogram::default().quantile(0.5), 0);
    }
}
