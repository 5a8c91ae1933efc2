"""`spec.storage` and `spec.retention`: where everything is kept, and for how long."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from kinase.api._base import Duration, Model, Name, Rule


def is_shared(uri: str) -> bool:
    """Whether a URI can be reached by every pod of a cluster, not only from one machine."""
    return uri.startswith("s3://")


class Storage(Model):
    """Where the journal, weights and results are stored. Credentials come from the environment or a
    Secret, never from a manifest."""

    uri: Annotated[str, Field(pattern=r"^(file|s3)://.+", max_length=1024)] = "file://runs"
    """Prefix of everything the experiment writes: file://FOLDER or s3://BUCKET/PREFIX."""
    endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of an S3-compatible server. Default: AWS S3."""
    region: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Region of the bucket. Default: taken from the environment."""
    credentials_secret: Name | None = None
    """Secret that holds AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (cluster only)."""
    role_arn: Annotated[str, Field(pattern=r"^arn:\S+$", max_length=2048)] | None = None
    """IAM role that the pods assume with a token of their ServiceAccount
    (AssumeRoleWithWebIdentity), instead of a Secret (cluster only)."""
    token_audience: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    """Audience of that token. It must match the administrator's default store. Default:
    sts.amazonaws.com."""
    sts_endpoint: Annotated[str, Field(pattern=r"^https?://.+", max_length=1024)] | None = None
    """URL of the service that exchanges the token for credentials. It must match the
    administrator's default store. Default: AWS STS."""
    ca_config_map: Name | None = None
    """ConfigMap whose key ca.crt holds the CA certificates for the server (cluster only; a local
    run reads AWS_CA_BUNDLE)."""
    checkpoints: Literal["running", "all"] = "running"
    """Which checkpoints to keep: those of running trials only, or all."""
    weights: Literal["needed", "all"] = "needed"
    """Which trained weights to keep when children inherit them (estimation type Morphism): those
    that an unfinished or future child may need, or all. Of a trial that has paused, these are the
    latest. Weights of finalists are always kept."""

    rules: ClassVar = (
        Rule(
            "!has(self.roleArn) || !has(self.credentialsSecret)",
            "roleArn and credentialsSecret are both set; set only one of them",
            ".roleArn",
        ),
        *(
            Rule(
                f"!has(self.{name}) || has(self.roleArn)",
                f"{name} only applies together with roleArn; set roleArn, or remove {name}",
                f".{name}",
            )
            for name in ("tokenAudience", "stsEndpoint")
        ),
    )

    @field_validator("endpoint", "sts_endpoint")
    @classmethod
    def _is_url(cls, value: str | None) -> str | None:
        """Reject an endpoint without a valid port, which the network policies need."""
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            good = bool(parts.hostname) and parts.port != 0
        except ValueError:  # of a port or an address
            good = False
        if not good:
            raise ValueError(
                f"{value!r} has no valid host or port; write https://HOST or https://HOST:PORT, "
                "with a port in 1..65535"
            )
        return value

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        if self.role_arn is not None and self.credentials_secret is not None:
            raise ValueError("roleArn and credentialsSecret are both set; set only one of them")
        for name, given in (
            ("tokenAudience", self.token_audience),
            ("stsEndpoint", self.sts_endpoint),
        ):
            if given is not None and self.role_arn is None:
                raise ValueError(
                    f"{name} only applies together with roleArn; set roleArn, or remove {name}"
                )
        return self


class Retention(Model):
    """How long finished objects stay on the cluster. Nothing is removed from the storage."""

    pods: Duration = timedelta(minutes=10)
    """How long the Job, the pod and the logs of a finished attempt are kept."""
    trials: Duration | None = None
    """How long the NASTrial of a finished trial is kept once its result is in the journal. Default:
    as long as the experiment."""
    experiment: Duration | None = None
    """How long a finished experiment is kept. Default: until it is deleted."""
