"""Who an observation speaks of: the credential's company, environment and name, as messages show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.sync_health.frames import CREDENTIAL_COLUMNS, require_columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A credential as messages name it; ``company_name`` may be None, ``label`` never is."""

    credential_id: str
    company_id: str | None
    company_name: str | None
    environment: str

    @property
    def label(self) -> str:
        """The company's name, or what can be said instead."""
        return self.company_name or f"credential {self.credential_id}"


def subjects_of(credentials: pd.DataFrame) -> Mapping[str, Subject]:
    """
    Return every credential of a `CREDENTIAL_COLUMNS` frame by its id as text.

    Raises:
        FrameError: a column is missing.
    """
    require_columns(credentials, CREDENTIAL_COLUMNS, name="credentials")
    named = credentials["company_name"].notna()
    has_company = credentials["company_id"].notna()
    return {
        str(credential_id): Subject(
            credential_id=str(credential_id),
            company_id=str(company_id) if with_company else None,
            company_name=str(name) if with_name else None,
            environment=str(environment),
        )
        for credential_id, company_id, with_company, name, with_name, environment in zip(
            credentials["credential_id"],
            credentials["company_id"],
            has_company,
            credentials["company_name"],
            named,
            credentials["environment"],
            strict=True,
        )
    }


def unknown_subject(credential_id: str) -> Subject:
    """Return what can be said of a credential that has no row any more."""
    return Subject(credential_id=credential_id, company_id=None, company_name=None, environment="unknown")
