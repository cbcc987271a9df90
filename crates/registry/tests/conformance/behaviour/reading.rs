//! What is there is read as it is; the read-only backends do this, too.

use registry::{Address, Instance, Status, Update, Weight, Zone};

use crate::{
    fixture::{Readable, id, instance, listed, service},
    follower::Follower,
};

pub(crate) async fn every_field_of_an_instance_survives<R: Readable>() {
    let full = instance("shop/basket", 1)
        .with_id(id("basket-0"))
        .with_more_addresses([Address::new("[fd00::7]:50051").expect("an address")])
        .with_weight(Weight::new(7).expect("a weight"))
        .with_zone(Zone::new("eu-1").expect("a zone"))
        .with_version("v2 \"quoted\"\n")
        .with_label("tier", "gold")
        .with_label("näme/ü", "")
        .with_status(Status::NotServing);
    let registry = R::showing(std::slice::from_ref(&full)).await;
    let mut follower = Follower::start(registry.reader(), "shop/basket").await;
    follower.until_exactly(&[&full]).await;
}

pub(crate) async fn the_first_item_of_a_watch_is_a_reset<R: Readable>() {
    let instances = [instance("greeter", 1), instance("greeter", 2)];
    let registry = R::showing(&instances).await;
    let mut follower = Follower::start(registry.reader(), "greeter").await;
    let [Update::Reset(all)] = &follower.take_updates()[..] else {
        panic!("the first item is a reset and nothing else");
    };
    let mut all: Vec<Instance> = all.iter().map(|i| (**i).clone()).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(all, instances);
}

pub(crate) async fn each_service_is_read_by_its_whole_name<R: Readable>() {
    let instances = [
        instance("foo", 1),
        instance("foo/bar", 2),
        instance("foobar", 3),
    ];
    let registry = R::showing(&instances).await;
    for instance in &instances {
        let id = instance.id.as_str();
        assert_eq!(
            listed(registry.reader(), instance.service.as_str()).await,
            [id]
        );
    }
    assert!(listed(registry.reader(), "fo").await.is_empty());
    let services = registry.reader().services().await.expect("services");
    assert_eq!(services, ["foo", "foo/bar", "foobar"].map(service));
}

pub(crate) async fn an_instance_says_where_it_was_read<R: Readable>() {
    let instances = [instance("greeter", 1), instance("greeter", 2)];
    let registry = R::showing(&instances).await;
    let snapshot = registry.reader().list(&service("greeter")).await;
    let snapshot = snapshot.expect("a list");
    let origins = snapshot
        .instances()
        .map(|i| i.origin().expect("it was read"));
    let origins: Vec<_> = origins.collect();
    assert!(
        origins.iter().all(|o| o.key.contains("greeter")),
        "{origins:?}"
    );
    assert_ne!(origins[0].key, origins[1].key);
    assert!(origins.iter().all(|o| o.revision.0 > 0), "{origins:?}");
}
