"""Regression from latents to the coordinates of their volumes."""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

from raydrgn.shapes import Float

HELD_OUT = 0.25
HIDDEN = (512, 512, 512)
LEARNING_RATE, BATCH = 1e-3, 128
BLOCK = 100_000

MIN_VOLUMES = 20
"""Volumes that a regression needs at least: the network's own check takes a tenth of three quarters
of them, and cannot do with one."""


@dataclass(frozen=True, slots=True)
class Regression:
    """A fitted network from latents to coordinates, and its predictions where it was not fitted."""

    network: MLPRegressor
    latents: StandardScaler
    coordinates: StandardScaler
    held_out: Float[np.ndarray, "h k"]
    predicted: Float[np.ndarray, "h k"]

    @property
    def r_squared(self) -> Float[np.ndarray, " k"]:
        """Share of the held-out variance of each component that is explained."""
        error = ((self.held_out - self.predicted) ** 2).sum(axis=0)
        return 1 - error / ((self.held_out - self.held_out.mean(axis=0)) ** 2).sum(axis=0)

    def predict(self, z: Float[np.ndarray, "n zdim"]) -> Float[np.ndarray, "n k"]:
        """Return the coordinates of the volumes of latents, without decoding them."""
        parts = [
            self.coordinates.inverse_transform(
                self.network.predict(self.latents.transform(z[start : start + BLOCK])).reshape(
                    len(z[start : start + BLOCK]), -1
                )
            )
            for start in range(0, len(z), BLOCK)
        ]
        return np.concatenate(parts).astype(np.float32)


def fit_regression(
    z: Float[np.ndarray, "n zdim"], coordinates: Float[np.ndarray, "n k"], *, seed: int
) -> Regression:
    """Fit a network of three hidden layers to three quarters, and test it on the rest."""
    order = np.random.default_rng(seed).permutation(len(z))
    test, fit = np.split(order, [max(1, int(HELD_OUT * len(z)))])
    latents, targets = StandardScaler().fit(z[fit]), StandardScaler().fit(coordinates[fit])
    network = MLPRegressor(
        hidden_layer_sizes=HIDDEN,
        batch_size=min(BATCH, max(1, len(fit) // 2)),
        learning_rate_init=LEARNING_RATE,
        early_stopping=True,
        random_state=seed,
    )
    wanted = targets.transform(coordinates[fit])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the held-out quarter shows it
        network.fit(latents.transform(z[fit]), wanted if wanted.shape[1] > 1 else wanted[:, 0])
    fitted = Regression(network, latents, targets, coordinates[test], coordinates[test])
    return Regression(network, latents, targets, coordinates[test], fitted.predict(z[test]))
