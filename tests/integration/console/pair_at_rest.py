"""A pair of a site once nothing moves any more."""

from live_pair import Site, until

from openmse.ha.values import Config, Mode


def config_at_rest(site: Site) -> Config:
    """An earlier test's switchover ends when the old owner follows: the epoch moves once more."""

    def configs() -> list[Config | None]:
        return [site.node(name).config for name in ("mse1", "mse2")]

    def rests() -> bool:
        one, other = configs()
        return one == other and one is not None and one.mode is Mode.SYNC

    until(rests, "the pair is at rest")
    config = configs()[0]
    assert config is not None
    return config
