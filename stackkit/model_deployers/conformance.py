"""The suite that every model deployer passes, whatever its platform.

An author subclasses it in a test module of their own and gives one fixture:

    class TestMyDeployer(ModelDeployerConformance):
        @pytest.fixture
        def subject(self, tmp_path) -> Subject:
            return Subject(deployer, model={"model_uri": …}, other_model={"model_uri": …}, inputs=[[1.0, 2.0]])

The deployer is registered in an empty database, and its platform is real or a faithful stand-in. Each test leaves
nothing behind on it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from ..errors import AlreadyExistsError, InvalidConfigError, NotFoundError, PlatformUnavailableError, StackkitError
from ..store import services as rows
from .abilities import SplitsTraffic
from .base import BaseModelDeployer
from .config import Canary, Observation, PlatformIdentity, ServiceState
from .service import Service

_NAMES: dict[str, Any] = {"pipeline_name": "training", "pipeline_step_name": "deployer", "model_name": "iris"}
_NOTHING = Observation(ServiceState.INACTIVE)


@dataclass
class Subject:
    """What is tested: a deployer, and the configuration fields of two models that it can serve.

    ``inputs`` is data that both models predict for; None skips the predictions. ``broken_model`` holds the fields of
    one that fails to start; None skips that test. ``timeout`` is in seconds. ``canary_percent`` is a part of the
    requests that a deployer which ``SplitsTraffic`` can give to a canary.
    """

    deployer: BaseModelDeployer
    model: dict[str, Any]
    other_model: dict[str, Any]
    inputs: Any = None
    broken_model: dict[str, Any] | None = None
    timeout: float = 120
    canary_percent: int = 20

    def deploy(self, **fields: Any) -> Service:
        """Deploy the model, or what ``fields`` change of it."""
        replace = fields.pop("replace", False)
        values = {**_NAMES, **self.model, **fields}
        return self.deployer.deploy_model(replace=replace, timeout=self.timeout, **values)


class ModelDeployerConformance:
    """Subclass it as ``Test…`` and give the fixture ``subject``."""

    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError("give a fixture named subject that returns a Subject")

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, subject: Subject) -> Iterator[None]:
        """Delete what a test deployed, and check that the platform then knows nothing of it."""
        yield
        deployer = subject.deployer
        for service in list(deployer.find_model_server(refresh=False)):
            deployer.delete_model_server(service, timeout=subject.timeout)
            assert deployer.do_check([service]).get(service.id, _NOTHING).state is ServiceState.INACTIVE

    def test_a_deployed_model_is_running_and_found(self, subject: Subject) -> None:
        service = subject.deploy()
        assert service.is_running
        assert service.status.state is ServiceState.ACTIVE
        assert service.prediction_url
        assert service.config["model_name"] == "iris"
        assert service.status["prediction_url"] == service.prediction_url
        found = subject.deployer.find_model_server(**_NAMES)
        assert [each.uuid for each in found] == [service.uuid]
        assert found[0].is_running

    def test_it_predicts(self, subject: Subject) -> None:
        if subject.inputs is None:
            pytest.skip("the subject has no inputs")
        assert subject.deploy().predict(subject.inputs) is not None

    def test_deploying_the_same_again_returns_the_server_that_is_there(self, subject: Subject) -> None:
        first, second = subject.deploy(), subject.deploy()
        assert (second.uuid, second.revision) == (first.uuid, first.revision)
        assert second.prediction_url == first.prediction_url

    def test_many_deploys_at_once_give_one_server(self, subject: Subject) -> None:
        with ThreadPoolExecutor(8) as pool:
            services = list(pool.map(lambda _: subject.deploy(), range(8)))
        assert len({service.uuid for service in services}) == 1
        assert len(subject.deployer.find_model_server()) == 1

    def test_another_model_is_refused_without_replace(self, subject: Subject) -> None:
        service = subject.deploy()
        with pytest.raises(AlreadyExistsError, match=service.id):
            subject.deploy(**subject.other_model)
        assert subject.deployer.get_model_server(service).revision == 1
        assert subject.deployer.get_model_server(service).is_running

    def test_another_model_replaces_under_the_same_uuid_and_url(self, subject: Subject) -> None:
        first = subject.deploy()
        second = subject.deploy(**subject.other_model, replace=True)
        assert (second.uuid, second.revision) == (first.uuid, 2)
        assert second.prediction_url == first.prediction_url
        assert second.is_running

    def test_stop_and_start_keep_uuid_and_url(self, subject: Subject) -> None:
        service = subject.deploy()
        url = service.prediction_url
        service.stop(timeout=subject.timeout)
        assert service.status.state is ServiceState.INACTIVE
        assert service.prediction_url is None
        assert not subject.deployer.find_model_server(running=True)
        service.start(timeout=subject.timeout)
        assert service.is_running
        assert service.prediction_url == url

    def test_stop_start_and_delete_are_idempotent(self, subject: Subject) -> None:
        service = subject.deploy()
        service.start(timeout=subject.timeout)
        assert service.is_running
        service.stop(timeout=subject.timeout)
        service.stop(timeout=subject.timeout)
        assert service.status.state is ServiceState.INACTIVE
        service.delete(timeout=subject.timeout)
        with pytest.raises(NotFoundError):
            service.delete(timeout=subject.timeout)

    def test_a_running_server_can_be_deleted(self, subject: Subject) -> None:
        service = subject.deploy()
        service.delete(timeout=subject.timeout)
        assert not subject.deployer.find_model_server()
        with pytest.raises(NotFoundError):
            subject.deployer.get_model_server(service.uuid)

    def test_deploying_after_a_stop_starts_it_again(self, subject: Subject) -> None:
        service = subject.deploy()
        service.stop(timeout=subject.timeout)
        again = subject.deploy()
        assert again.uuid == service.uuid
        assert again.is_running

    def test_a_server_that_vanished_is_told_and_started_again(self, subject: Subject) -> None:
        service = subject.deploy()
        self.make_vanish(subject, service)
        seen = subject.deployer.get_model_server(service)
        assert seen.status.state is ServiceState.ERROR
        assert seen.status.message
        assert subject.deploy().is_running

    def make_vanish(self, subject: Subject, service: Service) -> None:
        """Remove the server behind the deployer's back. Override where the platform offers a ruder way."""
        from .convergence import Convergence
        from .leases import take

        lease = take(subject.deployer.database, service.id, deadline=0)
        assert lease is not None
        with lease:
            moves = Convergence(subject.deployer)
            moves.bring_down(lease, float("inf"), subject.deployer.do_stop, "vanish")

    def test_a_start_that_fails_leaves_one_row_in_error_and_nothing_running(self, subject: Subject) -> None:
        if subject.broken_model is None:
            pytest.skip("the subject has no broken model")
        for _ in range(2):
            with pytest.raises(StackkitError) as raised:
                subject.deploy(**subject.broken_model)
            (service,) = subject.deployer.find_model_server()
            assert service.status.state is ServiceState.ERROR
            assert service.status.message
            assert service.status.message.splitlines()[0] in raised.value.message
        started = subject.deploy(replace=True)
        assert started.uuid == service.uuid
        assert started.is_running

    def test_a_replacement_that_fails_leaves_the_old_model_serving(self, subject: Subject) -> None:
        if subject.broken_model is None:
            pytest.skip("the subject has no broken model")
        service = subject.deploy()
        with pytest.raises(StackkitError):
            subject.deploy(**subject.broken_model, replace=True)
        seen = subject.deployer.get_model_server(service)
        assert (seen.is_running, seen.revision, seen.prediction_url) == (True, 1, service.prediction_url)
        if subject.inputs is not None:
            assert seen.predict(subject.inputs) is not None

    def split(self, subject: Subject, **fields: Any) -> Service:
        """A server with a canary of the other model and ``fields``; skips where there is no such thing."""
        if not isinstance(subject.deployer, SplitsTraffic):
            pytest.skip("the deployer does not split a server's requests")
        service = subject.deploy()
        changes = {**subject.other_model, **fields}
        return subject.deployer.update_model_server(
            service, canary=subject.canary_percent, timeout=subject.timeout, **changes
        )

    def test_a_canary_answers_beside_the_old_model_and_is_promoted(self, subject: Subject) -> None:
        split = self.split(subject)
        url = split.prediction_url
        seen = subject.deployer.get_model_server(split)
        assert (seen.is_running, seen.revision, seen.canary) == (True, 1, Canary(2, subject.canary_percent))
        assert (seen.status.message, seen.prediction_url) == ("", url)
        if subject.inputs is not None:
            assert seen.predict(subject.inputs) is not None
        promoted = subject.deployer.promote_model_server(split, timeout=subject.timeout)
        assert (promoted.uuid, promoted.revision, promoted.canary) == (split.uuid, 2, None)
        seen = subject.deployer.get_model_server(split)
        assert (seen.is_running, seen.status.message, seen.prediction_url) == (True, "", url)

    def test_an_aborted_canary_leaves_the_old_model_alone(self, subject: Subject) -> None:
        split = self.split(subject)
        aborted = subject.deployer.abort_model_server(split, timeout=subject.timeout)
        assert (aborted.is_running, aborted.revision, aborted.canary) == (True, 1, None)
        seen = subject.deployer.get_model_server(split)
        assert (seen.is_running, seen.status.message) == (True, "")
        with pytest.raises(NotFoundError):
            subject.deployer.abort_model_server(split, timeout=subject.timeout)
        # the number is given again, and what it names is the new content
        again = subject.deploy(**subject.other_model, replace=True)
        assert (again.revision, again.is_running) == (2, True)

    def test_a_canary_that_fails_is_aborted(self, subject: Subject) -> None:
        if subject.broken_model is None:
            pytest.skip("the subject has no broken model")
        with pytest.raises(StackkitError):
            self.split(subject, **subject.broken_model)
        (seen,) = subject.deployer.find_model_server()
        assert (seen.is_running, seen.revision, seen.canary) == (True, 1, None)
        assert "canary" not in seen.status.message, "a platform may still be busy, but not with it"

    def test_a_stop_ends_the_canary_too(self, subject: Subject) -> None:
        split = self.split(subject)
        split.stop(timeout=subject.timeout)
        assert (split.status.state, split.canary) == (ServiceState.INACTIVE, None)
        split.start(timeout=subject.timeout)
        seen = subject.deployer.get_model_server(split)
        assert (seen.is_running, seen.revision, seen.canary, seen.status.message) == (True, 1, None, "")

    def test_logs_can_be_read(self, subject: Subject) -> None:
        service = subject.deploy()
        assert all(isinstance(line, str) and not line.endswith("\n") for line in service.logs(tail=5))
        assert len(list(service.logs(tail=1))) <= 1

    def test_unknown_fields_are_refused_by_name(self, subject: Subject) -> None:
        with pytest.raises(InvalidConfigError, match="no_such_field"):
            subject.deploy(no_such_field=1)
        assert not subject.deployer.find_model_server()

    def test_checks_of_many_are_answered_at_once(self, subject: Subject) -> None:
        first, second = subject.deploy(), subject.deploy(model_name="other")
        seen = subject.deployer.do_check([first, second])
        assert {key: each.state for key, each in seen.items()} == {
            first.id: ServiceState.ACTIVE,
            second.id: ServiceState.ACTIVE,
        }

    def test_what_was_never_started_is_inactive_and_can_be_deleted(self, subject: Subject) -> None:
        service = subject.deploy()
        service.delete(timeout=subject.timeout)
        assert subject.deployer.do_check([service]).get(service.id, _NOTHING).state is ServiceState.INACTIVE

    def test_from_another_platform_it_is_unknown_and_nothing_is_settled(
        self, subject: Subject, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = subject.deploy()
        elsewhere = PlatformIdentity(f"elsewhere:{uuid.uuid4()}", "another place")
        with monkeypatch.context() as patched:
            patched.setattr(subject.deployer, "do_identify", lambda: elsewhere)
            (seen,) = subject.deployer.find_model_server()
            assert seen.status.state is ServiceState.UNKNOWN
            for act in (seen.start, seen.stop, seen.delete):
                with pytest.raises(PlatformUnavailableError):
                    act()
        assert subject.deployer.get_model_server(service).is_running

    def test_a_check_changes_nothing(self, subject: Subject) -> None:
        service = subject.deploy()
        with subject.deployer.database.read() as connection:
            before = rows.get(connection, service.id)
        for _ in range(3):
            subject.deployer.find_model_server()
        with subject.deployer.database.read() as connection:
            assert rows.get(connection, service.id) == before
