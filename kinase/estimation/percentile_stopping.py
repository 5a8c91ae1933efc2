"""The median stopping rule with another percentile."""

from __future__ import annotations

from kinase.api.estimation import PercentileStoppingEstimation
from kinase.estimation.median_stopping import MedianStopping


class PercentileStopping(MedianStopping):
    """A trial goes on only while its best loss is among the best so many percent of the completed
    trials' running averages (Golovin et al. 2017, section 3.2.2, with a percentile in the median's
    place)."""

    options: PercentileStoppingEstimation

    @property
    def percentile(self) -> float:  # type: ignore[override]
        """That of the manifest."""
        return self.options.percentile
