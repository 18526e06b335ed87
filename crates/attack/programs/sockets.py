# Every family, netlink and internet protocol; also by socketpair, and through AF_INET.
families, links, pairs, protocols = set(), set(), set(), set()
for family in range(0, 64):
    for kind in (1, 2, 3, 4, 5, 10):
        for protocol in (0, 1, 3, 6):
            if raw(41, family, kind, protocol) >= 0: families.add(family)
            if raw(53, family, kind, protocol, ctypes.create_string_buffer(8)) >= 0: pairs.add(family)
    os.closerange(3, 4096)
for protocol in range(0, 64):
    for kind in (2, 3):
        if raw(41, 16, kind, protocol) >= 0: links.add(protocol)
for family in (2, 10):
    for kind in (1, 2, 5, 6):
        for protocol in range(0, 300):
            if raw(41, family, kind, protocol) >= 0: protocols.add(protocol)
        os.closerange(3, 4096)
tell({
    "families": sorted(families - {1, 2, 10, 16}), "pairs": sorted(pairs - {1}), "links": sorted(links - {0, 4}),
    "protocols": sorted(protocols - {0, 1, 6, 17, 58}), "usual": {1, 2, 10} <= families,
})
