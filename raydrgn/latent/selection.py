"""A selection of the particles of an epoch: the chosen methods, each with what it keeps."""

import logging
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from raydrgn.clustering.clusters import Clusters, mixture
from raydrgn.io.indices import read_original_numbers
from raydrgn.latent import filters
from raydrgn.latent.conditions import by_conditions, read_conditions
from raydrgn.latent.filters import Method
from raydrgn.latent.groups_report import Groups
from raydrgn.latent.numeric_values import ConditionValues
from raydrgn.latent.options import SelectionOptions
from raydrgn.latent.own_labels import own_labels
from raydrgn.latent.values import ParticleValues, particles_of
from raydrgn.reporting.analysis_results import AnalysisResults, kmeans_folder
from raydrgn.run.config import RunConfig
from raydrgn.run.latents_file import LatentSource
from raydrgn.run.reader import RunReader
from raydrgn.settings import whole_numbers
from raydrgn.shapes import Float, Int

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ParticleSelection:
    """Particles of an epoch, and how they are selected."""

    options: SelectionOptions
    source: LatentSource
    epoch: int | None
    z: Float[np.ndarray, "n zdim"]
    numbers: Int[np.ndarray, " n"]
    """Of the particles in the original set."""

    def methods(self) -> list[Method]:
        """Apply the chosen methods.

        Raises:
            RaydrgnError: If a method does not fit the run, or a file that it names cannot be read.
        """
        options = self.options
        found = self._by_clusters()
        dropped = whole_numbers(options.drop, "--drop", ranges=True)
        if options.gmm is not None and dropped:
            found.append(filters.by_mixture(self._components, dropped))
        found += self._by_values()
        if options.zscore is not None:
            found.append(filters.by_magnitude(self.z, options.zscore))
        if options.umap_polygon is not None:
            corners = filters.read_polygon(options.umap_polygon)
            found.append(filters.by_region(self._analysis.require_umap(len(self.z)), corners))
        if options.null is not None:
            found.append(self._by_null(options.null))
        if options.ind is not None:
            selected = read_original_numbers(options.ind, self.numbers)
            found.append(filters.by_selection(self.numbers, selected))
        return found

    def groups(self) -> Groups:
        """Return the clusters or components that are shown, before any is dropped."""
        if self.options.gmm is not None:
            noun, labels = "component", self._components.labels
        else:
            noun, labels = "cluster", self._labels
        return Groups(noun=noun, labels=labels, z=self.z, numbers=self.numbers)

    @cached_property
    def _components(self) -> Clusters:
        """The Gaussian mixture of `--gmm`, fitted only where a method or condition needs it."""
        assert self.options.gmm is not None
        return mixture(self.z, self.options.gmm)

    @property
    def _analysis(self) -> AnalysisResults:
        return AnalysisResults(self.source, self.epoch)

    @cached_property
    def _labels(self) -> Int[np.ndarray, " n"]:
        """Return the cluster of each particle: of k-means, or of the file given."""
        options, count = self.options, len(self.numbers)
        if options.labels is None:
            analysis = self._analysis
            ksample = options.ksample or analysis.ksample()
            labels = analysis.labels(ksample, count)
            log.info("clusters: %s", analysis.folder.at(kmeans_folder(ksample)))
            return labels
        particles = particles_of(self.source)
        return own_labels(options.labels, count, self.numbers, particles=particles)

    def _by_clusters(self) -> list[Method]:
        keep = whole_numbers(self.options.keep_clusters, "--keep-clusters", ranges=True)
        drop = whole_numbers(self.options.drop_clusters, "--drop-clusters", ranges=True)
        if not (keep or drop):
            return []
        return [filters.by_clusters(self._labels, keep=keep, drop=drop)]

    def _by_values(self) -> list[Method]:
        """Return the conditions on values: as text, and of a file."""
        where, conditions = self.options.where, self.options.conditions
        if where is None and conditions is None:
            return []
        found = []
        values = ParticleValues(self.source, self.epoch, self.z, labels=self.options.labels)
        if where is not None:
            own = {"cluster": lambda: self._labels}
            if self.options.gmm is not None:
                own["component"] = lambda: self._components.labels
            found.append(filters.by_condition(where, ConditionValues(values, own)))
        if conditions is not None:
            found.append(by_conditions(read_conditions(conditions), values))
        return found

    def _by_null(self, most: float) -> Method:
        """Drop images that show nothing; warn if there are none."""
        null = filters.by_null(self.source.estimates(self.epoch)["null_probability"], most)
        if null.kept.all():
            log.warning(
                "no image has a null probability above %g: %s", most, self._why_no_junk(most)
            )
        return null

    def _why_no_junk(self, limit: float) -> str:
        """Return why no image of a mixture of factor analysers is above a null probability."""
        from raydrgn.run.mixture import read_mixture  # loads torch

        if limit >= 1:
            return "1 is the highest there is, and keeps all"
        assert isinstance(self.source, RunReader)  # which alone has estimates
        config = RunConfig.read(self.source.files.config)
        if config.mfa is not None and not config.mfa.null_class:
            return "the run, of `raydrgn train --no-null-class`, did not look for such images"
        if read_mixture(self.source, self.epoch).priors.null_share == 0:
            return (
                "the mean explains too little of each image for the fit to look for such images "
                "(its run.log has a warning)"
            )
        return "all seem to show a particle"
