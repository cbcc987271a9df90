//! A ring or table, kept for as long as it would be built the same: endpoints change their states far more often than
//! their keys and weights.

use std::sync::Arc;

use registry::Instance;

use crate::endpoint::Endpoint;

/// The last one that was built, and for whom.
pub(in crate::policy) struct Kept<W> {
    instances: Vec<Arc<Instance>>,
    built: Option<Arc<W>>,
}

impl<W> Default for Kept<W> {
    fn default() -> Self {
        Self {
            instances: Vec::new(),
            built: None,
        }
    }
}

impl<W> Kept<W> {
    /// What `build` makes of the endpoints' keys and weights, or has made of them.
    pub(in crate::policy) fn of(
        &mut self,
        endpoints: &[Arc<Endpoint>],
        build: impl FnOnce(&[(&str, f64)]) -> W,
    ) -> Arc<W> {
        match &self.built {
            Some(kept) if self.is_of(endpoints) => Arc::clone(kept),
            _ => {
                self.instances = endpoints.iter().map(|e| e.instance()).collect();
                let keys: Vec<_> = self
                    .instances
                    .iter()
                    .map(|instance| (key(instance), f64::from(instance.weight.get())))
                    .collect();
                let made = Arc::new(build(&keys));
                self.built = Some(Arc::clone(&made));
                made
            }
        }
    }

    fn is_of(&self, endpoints: &[Arc<Endpoint>]) -> bool {
        let is_same = |(was, is): (&Arc<Instance>, &Arc<Endpoint>)| {
            let is = is.instance();
            Arc::ptr_eq(was, &is) || (key(was) == key(&is) && was.weight == is.weight)
        };
        self.instances.len() == endpoints.len() && self.instances.iter().zip(endpoints).all(is_same)
    }
}

/// What an instance is hashed by: its label `hash_key`, which gRFC A76 has for instances whose addresses change with each
/// start, or its first address.
fn key(instance: &Instance) -> &str {
    match instance.labels.get("hash_key") {
        Some(key) if !key.is_empty() => key,
        _ => instance.address().as_str(),
    }
}
