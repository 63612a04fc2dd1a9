"""Design of a test: power, the number of seeds, the detectable share."""

import math

import numpy as np

from ncharness.verdicts.p_values import DRAWS, MOST_SEEDS, ROUNDING, TESTS, check_alpha, check_number, p_for_and_against


def power(
    test: str,
    *,
    effect: float,
    sd: float,
    n: int,
    margin: float = 0.0,
    alpha: float = 0.05,
    max_difference: float | None = None,
    n_levels: int = 3,
) -> float:
    """Power: the probability that a test on n seeds gives SUPPORTED, for normal differences.

    It is simulated through the tests themselves with a fixed seed, good to .024 (three standard errors). Fewer than
    log2(1/alpha) seeds, that is 4 or fewer at .05, have power 0: even if all agree, .5**n > alpha.

    Args:
        test: `superiority`, `equivalence` or `trend`.
        effect: Mean of the differences; for a trend, of the rise from the first level to the last, with a straight line
            between and independent noise at every level.
        sd: Standard deviation over seeds of the difference or the rise.
        n: Number of seeds.
        margin: Margin; for a trend, its `min_effect`.
        alpha: Significance level.
        max_difference: Largest difference that an equivalence claim allows to any seed.
        n_levels: Number of levels of a trend.

    Returns:
        A probability.

    Raises:
        ValueError: A test that there is not, or a number that it cannot take.

    Examples:
        >>> round(power("superiority", effect=2.0, sd=0.5, n=5), 2), power("superiority", effect=2.0, sd=0.5, n=4)
        (1.0, 0.0)
    """
    _check_design(test, effect, sd, margin, alpha, max_difference, n_levels)
    if n < 2:
        raise ValueError(f"n: expected at least 2 seeds, got {n!r}")
    if n < fewest_seeds(alpha):
        return 0.0
    generator = np.random.default_rng(0)
    if test == "trend":
        # Each end of the rise carries half of its variance.
        noise = generator.standard_normal((DRAWS, n, n_levels)) * (sd / math.sqrt(2.0))
        data = effect * np.linspace(0.0, 1.0, n_levels) + noise
    else:
        data = effect + sd * generator.standard_normal((DRAWS, n))
    p, _ = p_for_and_against(test, data, margin, max_difference)
    return float((p <= alpha).mean())


def seeds_needed(
    test: str,
    *,
    effect: float,
    sd: float,
    margin: float = 0.0,
    alpha: float = 0.05,
    target: float = 0.8,
    max_difference: float | None = None,
    n_levels: int = 3,
) -> int | None:
    """Smallest number of seeds whose `power` reaches a target.

    Never below log2(1/alpha), 5 seeds at .05. Power is a sawtooth in n, as the sign test's level is: with 8 seeds one
    may
    disagree, with 7 none, so that one seed more than the number given can have a little less power.

    Args:
        test: `superiority`, `equivalence` or `trend`.
        effect: Mean of the differences, as in `power`.
        sd: Standard deviation over seeds.
        margin: Margin; for a trend, its `min_effect`.
        alpha: Significance level.
        target: Power to reach, in (0, 1).
        max_difference: Largest difference that an equivalence claim allows to any seed.
        n_levels: Number of levels of a trend.

    Returns:
        The number, above 20 to within 5 %; None if 200 seeds do not reach the target.

    Raises:
        ValueError: As for `power`.

    Examples:
        >>> seeds_needed("superiority", effect=2.0, sd=0.5), seeds_needed("superiority", effect=0.0, sd=0.5)
        (5, None)
    """
    _check_design(test, effect, sd, margin, alpha, max_difference, n_levels)
    if not 0.0 < target < 1.0:
        raise ValueError(f"target: expected a power in (0, 1), got {target!r}")
    distance = margin - abs(effect) if test == "equivalence" else effect - margin
    if distance <= 0.0:
        return None
    # The sign test's own power and the chance of no seed beyond `max_difference` are exact, quick, and upper bounds:
    # only where they suffice is there need to simulate.
    from scipy import stats  # half a second, which no process that only trains should pay

    normal = stats.norm(effect, max(sd, 1e-12 * distance))
    sizes = np.arange(MOST_SEEDS + 1)
    bound = stats.binom.sf(stats.binom.isf(alpha, sizes, 0.5), sizes, normal.cdf(effect + distance))
    if max_difference is not None:
        limit = max_difference * (1.0 + ROUNDING)
        bound = np.minimum(bound, (normal.cdf(limit) - normal.cdf(-limit)) ** sizes)
    n = fewest_seeds(alpha)
    while n <= MOST_SEEDS:
        if bound[n] >= target:
            reached = power(
                test,
                effect=effect,
                sd=sd,
                n=n,
                margin=margin,
                alpha=alpha,
                max_difference=max_difference,
                n_levels=n_levels,
            )
            if reached >= target:
                return n
        n += max(1, n // 20)
    return None


def detectable_share(n: int, alpha: float = 0.05) -> float:
    """Smallest share of deviant seeds of which n seeds show at least one with probability 1 - alpha.

    1 - alpha**(1/n). A jump that befalls a smaller share of all seeds can stay unseen with probability above alpha, and
    then
    no test on these seeds can exclude it.

    Args:
        n: Number of seeds.
        alpha: Probability of seeing none.

    Returns:
        A share in (0, 1).

    Raises:
        ValueError: A number outside its range.

    Examples:
        >>> round(detectable_share(5), 2), round(detectable_share(10), 2)
        (0.45, 0.26)
    """
    check_alpha(alpha)
    if n < 1:
        raise ValueError(f"n: expected at least 1 seed, got {n!r}")
    return float(1.0 - alpha ** (1.0 / n))


def fewest_seeds(alpha: float) -> int:
    """Fewest seeds that can support a claim: log2(1/alpha), rounded up."""
    return math.ceil(-math.log2(alpha))


def _check_design(
    test: str,
    effect: float,
    sd: float,
    margin: float,
    alpha: float,
    max_difference: float | None,
    n_levels: int,
) -> None:
    if test not in TESTS:
        raise ValueError(f"test: expected one of {', '.join(TESTS)}, got {test!r}")
    check_number("effect", effect)
    check_number("margin", margin, positive=test == "equivalence")
    check_alpha(alpha)
    if not (math.isfinite(sd) and sd >= 0.0):
        raise ValueError(f"sd: expected a finite number of at least 0, got {sd!r}")
    if max_difference is not None:
        check_number("max_difference", max_difference, positive=True)
    if n_levels < 3:
        raise ValueError(f"n_levels: expected at least 3, got {n_levels!r}")
