//! Samples and what is said of them.

use serde_json::{Value, json};

/// Measurements of one figure, in the figure's unit.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a measurement.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The value below which the part `q` (0 to 1) of the samples lies; `None` without samples.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // A few hundred samples: exact in an f64, and the product is within the bounds.
        #[allow(clippy::cast_precision_loss)]
        let at = q * last as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let (low, high) = (at.floor() as usize, at.ceil() as usize);
        let part = at - at.floor();
        Some(sorted.get(low)? * (1.0 - part) + sorted.get(high)? * part)
    }

    /// The median.
    pub fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }

    /// Count, median, quartiles and extremes.
    pub fn to_json(&self) -> Value {
        let q = |q| self.quantile(q);
        json!({
            "n": self.0.len(),
            "median": self.median(),
            "p25": q(0.25),
            "p75": q(0.75),
            "min": q(0.0),
            "max": q(1.0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), None);
        for value in [4.0, 1.0, 3.0, 2.0] {
            samples.push(value);
        }
        assert_eq!(samples.median(), Some(2.5));
        assert_eq!(samples.quantile(0.0), Some(1.0));
        assert_eq!(samples.quantile(1.0), Some(4.0));
        assert_eq!(samples.quantile(0.25), Some(1.75));
    }
}
