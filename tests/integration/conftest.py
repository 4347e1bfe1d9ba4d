"""The studio's pages in a real browser, for the tests of designing and of selling."""

from collections.abc import Callable, Iterator

import pytest
from perfusion.client import PerFusion
from playwright.sync_api import Browser

from deploy.demo.browsing import Person, chromium
from deploy.local.cluster import Cluster
from deploy.local.parts import IDENTITY_PROVIDER, STUDIO
from lab.market.merchants import case_study

Visit = Callable[..., Person]


@pytest.fixture(scope="module")
def home(cluster: Cluster) -> Iterator[str]:
    """The page's address; the two stores have a profile."""
    layout = cluster.layout
    cluster.up([IDENTITY_PROVIDER.name, STUDIO.name])
    with PerFusion(layout.address("user_embedding"), identity=layout.client) as client:
        for merchant in case_study():
            client.put_profile(merchant.user_id, merchant.features)
    yield layout.studio_url
    for name in (STUDIO.name, IDENTITY_PROVIDER.name):
        cluster.stop(name)


@pytest.fixture(scope="module")
def browser(home: str) -> Iterator[Browser]:
    try:
        with chromium() as started:
            yield started
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def visit(browser: Browser, home: str) -> Iterator[Visit]:
    """People, whose pages complain of nothing."""
    people: list[Person] = []

    def come(subject: str = "", **options: object) -> Person:
        people.append(Person(browser, home, **options))
        return people[-1].log_in(subject) if subject else people[-1]

    yield come
    for person in people:
        assert person.faults == []
        person.context.close()
