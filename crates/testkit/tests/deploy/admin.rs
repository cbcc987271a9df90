//! The admin page has no password, and is seen on this machine alone unless somebody says otherwise.

use crate::binaries::Configured;

#[test]
fn the_admin_page_of_every_binary_is_on_loopback_unless_told_otherwise() {
    let commands: [&[&str]; 5] = [
        &["greeter-server"],
        &["greeter-client"],
        &["user-service"],
        &["discovery", "server"],
        &["discovery", "client"],
    ];
    for command in commands {
        let listens = Configured::of(command, &[]).address("admin");
        assert!(listens.ip().is_loopback(), "{command:?}: {listens}");
        let told = [("DISCOVERY__ADMIN__LISTEN".into(), "0.0.0.0:9090".into())];
        let listens = Configured::of(command, &told).address("admin");
        assert_eq!(listens.to_string(), "0.0.0.0:9090", "{command:?}");
    }
}
