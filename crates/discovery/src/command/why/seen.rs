//! What follows from how an instance stands, in words.

use registry::{Instance, Intent, Placement, Status, dialect::DialectName};

/// Whether callers of this project give the instance calls, and why.
pub(super) fn verdict(instance: Option<&Instance>, wanted: Option<&Intent>) -> (bool, String) {
    let Some(one) = instance else {
        let why = "it is not registered; whoever takes its id is under what an operator wants";
        return (false, why.to_owned());
    };
    let is_called = one.status == Status::Serving;
    let status = one.status.as_str().replace('_', " ");
    let own = one.own_status().as_str().replace('_', " ");
    let why = match wanted.and_then(Intent::status) {
        Some(_) if one.own_status() != one.status => {
            format!("an operator wants it {status}; it says itself that it is {own}")
        }
        Some(_) => format!("it says that it is {status}, and an operator wants it so"),
        None => format!("it says that it is {status}, and no operator wants otherwise"),
    };
    (is_called, why)
}

/// What a place goes with.
pub(super) fn held_by(place: &Placement, url: &str) -> String {
    if let Some(lease) = place.lease {
        let (id, ttl, left) = (lease.id, lease.ttl.as_secs(), lease.remaining.as_secs());
        return format!(
            "lease {id:x} of {ttl} s, which ends in {left} s unless its owner is heard of"
        );
    }
    let scheme = url.split_once(':').map_or(url, |(scheme, _)| scheme);
    match scheme {
        "etcd" | "etcds" => "no lease: it stays until somebody deletes the key, whatever becomes of its owner",
        "file" => "no lease, which a directory has none of: its owner's lock on the file, which ends with the owner",
        _ => "no lease, which a fixed list has none of: it stays while the list has it",
    }
    .to_owned()
}

/// Who sees what stands in that dialect.
pub(super) fn seen_by(dialect: Option<DialectName>) -> &'static str {
    match dialect {
        None => "callers of this project",
        Some(DialectName::Etcd) => {
            "callers of this project, and etcd's own Go package, which knows no status and no intent: it goes on calling \
             an instance that drains until the key is gone"
        }
        Some(DialectName::Qsf) => {
            "callers of chuangyou/qsf, and of this project that read its dialect"
        }
        Some(DialectName::GrpcLb) => {
            "callers of liyue201/grpc-lb, and of this project that read its dialect"
        }
        Some(DialectName::GoZero) => {
            "callers of go-zero, and of this project that read its dialect"
        }
        Some(DialectName::Kratos) => "callers of kratos, and of this project that read its dialect",
        Some(DialectName::Kitex) => "callers of Kitex, and of this project that read its dialect",
        Some(DialectName::GoMicro) => {
            "callers of go-micro, and of this project that read its dialect"
        }
        Some(DialectName::Gopherex) => {
            "callers of gopherex, and of this project that read its dialect"
        }
        Some(_) => "whoever reads the dialect, callers of this project among them",
    }
}

#[cfg(test)]
mod tests {
    use registry::{Address, Instance, ServiceName};

    use super::{Intent, Status, verdict};

    #[test]
    fn what_decides_is_named() {
        let service = ServiceName::new("greeter").expect("a name");
        let address = Address::new("10.0.0.7:1").expect("an address");
        let serving = Instance::new(service, address);
        let stopping = serving.clone().with_status(Status::Draining);
        let draining = Intent::from(Status::Draining);
        for (instance, wanted, called, says) in [
            (
                Some(&serving),
                None,
                true,
                "says that it is serving, and no operator",
            ),
            (
                Some(&stopping),
                None,
                false,
                "says that it is draining, and no operator",
            ),
            (
                Some(&stopping),
                Some(&draining),
                false,
                "an operator wants it so",
            ),
            (None, Some(&draining), false, "not registered"),
        ] {
            let (is_called, why) = verdict(instance, wanted);
            assert_eq!(is_called, called, "{why}");
            assert!(why.contains(says), "{why}");
        }
    }
}
