//! What must hold for any bytes from the kernel, a plugin or a file: fuzz targets and property
//! tests call these.

use sys::netlink::{attributes, split};

use crate::nft::{self, Element};
use crate::{cni, conntrack, rtnl};

/// Length of `struct nfgenmsg`, and of the shortest fixed part there is.
const SHORT: usize = 4;

/// Messages of rtnetlink, nftables and connection tracking become what they say, or nothing.
pub fn netlink(bytes: &[u8]) {
    for message in split(bytes) {
        assert!(message.body.len() < bytes.len());
        let _ = nft::is_loss(message.kind);
        let body = message.body.as_slice();
        let _ = rtnl::parse_link(body);
        let _ = rtnl::parse_address(body);
        let _ = rtnl::parse_route(body);
        if let Some(flow) = conntrack::parse(body) {
            conntrack::sound(&flow);
        }
        for (_, value) in attributes(body, SHORT) {
            assert!(value.len() < body.len());
            for set in nft::Set::ALL {
                for element in Element::decode(set, value) {
                    let _ = element.host_port();
                    assert!(element.key.len() + element.value.len() <= value.len());
                }
            }
        }
    }
}

/// A plugin's answer or a network's configuration becomes what it says, or one line.
pub fn cni(bytes: &[u8]) {
    let one_line = |text: &str| assert!(!text.contains(char::is_control), "{text:?}");
    if let Some((_, words)) = cni::refusal(bytes) {
        one_line(&words);
    }
    let Ok(value) = serde_json::from_slice(bytes) else {
        return;
    };
    match cni::setup(&value, "eth0") {
        Ok(setup) => assert_eq!(setup.interface, "eth0"),
        Err(reason) => one_line(&reason),
    }
    let list = cni::NetworkList::parse(&value).and_then(|list| list.check().map(|()| list));
    match list {
        // What we keep of it, we read again.
        Ok(list) => assert_eq!(cni::NetworkList::parse(&list.to_value()), Ok(list)),
        Err(reason) => one_line(&reason),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Type, attributes and fixed part of a message.
    type Parts = (u16, Vec<(u16, Vec<u8>)>, Vec<u8>);

    /// Bytes that look like a message more often than by chance.
    fn messages() -> impl Strategy<Value = Vec<u8>> {
        let attribute = (0_u16..40, vec(any::<u8>(), 0..40));
        let message = (any::<u16>(), vec(attribute, 0..8), vec(any::<u8>(), 0..20));
        vec(message, 0..4).prop_map(|list| {
            let one = |(kind, list, fixed): Parts| {
                let request = sys::netlink::Request::new(kind, 0, "any").fixed(&fixed);
                let request = list.iter().fold(request, |request, (kind, value)| {
                    request.attribute(*kind, value)
                });
                request.encode(1).unwrap()
            };
            list.into_iter().flat_map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn any_message_is_survived(bytes in messages()) {
            super::netlink(&bytes);
        }

        #[test]
        fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
            super::netlink(&bytes);
            super::cni(&bytes);
        }

        #[test]
        fn any_answer_is_survived(
            key in "name|plugins|type|ips|ip4|interfaces|code|msg|dns|cniVersions",
            inner in "address|ip|interface|sandbox|name|type|nameservers|details",
            text in "\\PC*|10.0.0.1/8|../x|\u{1b}\n",
        ) {
            let value = serde_json::json!({"name": "n", "msg": text, "code": 3, key: [{inner: text}]});
            super::cni(value.to_string().as_bytes());
        }
    }
}
