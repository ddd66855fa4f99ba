"""Intervals and p-values against what others have published, and against simulations whose truth is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deit.tables.scores import Scores, difference, paired_seeds, seed_of
from deit.tables.statistics import Estimate, over_seeds, over_seeds_and_images
from deit.tables.student_t import quantile, upper_tail
from deit.tables.verdicts import holm

SCIPY_TAILS = {  # scipy 1.17.1: scipy.stats.t.sf(t, df) for t = 0.1, 1, 3, 20, and scipy.stats.t.ppf(0.975, df)
    1: (0.4682744825694465, 0.25000000000000006, 0.10241638234956672, 0.015902251256176374, 12.706204736174694),
    2: (0.4647327192070701, 0.2113248654051871, 0.04773298313335456, 0.0012453319461835485, 4.302652729749462),
    3: (0.46332617440040297, 0.19550110947788524, 0.02883444281121865, 0.0001366016251236558, 3.1824463052837078),
    4: (0.4625779204697266, 0.18695048315002943, 0.019970984035859413, 1.8441552901498655e-05, 2.7764451051977934),
    5: (0.4621150705773302, 0.18160873382456144, 0.015049623948731293, 2.887758186612087e-06, 2.5705818356363146),
    9: (0.4612682239783406, 0.1717181980689568, 0.007478181955207111, 4.539760649958273e-09, 2.262157162798205),
    40: (0.4604219265226401, 0.16166090587414556, 0.0023150698920780676, 9.749455816645903e-23, 2.021075390306273),
    99: (0.46027327536879115, 0.1598742370696507, 0.0017077539607894359, 7.532224297300891e-37, 1.9842169515864174),
}
BETWEEN = {  # mpmath 1.3: betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True) / 2 for t = 0.5, 2, 5, 12
    1.5: (0.34028355533497, 0.1120941651780255, 0.03268788381057812, 0.009021014637013932),
    2.3: (0.3304362174423779, 0.08330678949401495, 0.01408017523809224, 0.002003956919112903),
    3.7: (0.322667816659966, 0.060908600952617, 0.00458198382244666, 0.0002133936996906225),
    6.5: (0.3167757997422596, 0.04438064179400986, 0.0009724993893671868, 5.624612494101041e-6),
    11.25: (0.3133553915091246, 0.03511523877089169, 0.0001880168784901066, 4.652437441101892e-8),
}

# Box, Hunter & Hunter, Statistics for Experimenters (1978), section 7.2: yields of four treatments (rows) of penicillin
# in five blends (columns). Their table: mean 86, mean squares 23.3 (treatments), 66.0 (blends), 18.8 (residual).
PENICILLIN = np.array([[89, 84, 81, 87, 79], [88, 77, 87, 92, 81], [97, 92, 87, 89, 80], [94, 79, 85, 84, 88]])

seeds_and_images = st.tuples(st.integers(2, 6), st.integers(2, 30))
differences = seeds_and_images.flatmap(lambda shape: arrays(np.int8, shape, elements=st.integers(-1, 1)))


@pytest.mark.parametrize("df", SCIPY_TAILS)
def test_student_t_is_scipys(df):
    *tails, two_sided = SCIPY_TAILS[df]
    assert [upper_tail(t, df) for t in (0.1, 1, 3, 20)] == pytest.approx(tails, rel=1e-9)
    assert upper_tail(-3, df) == pytest.approx(1 - tails[2], rel=1e-12)
    assert quantile(0.975, df) == pytest.approx(two_sided, rel=1e-10)


@pytest.mark.parametrize("df", BETWEEN)
def test_between_whole_degrees_of_freedom_student_t_is_exact(df):
    assert [upper_tail(t, df) for t in (0.5, 2, 5, 12)] == pytest.approx(BETWEEN[df], rel=1e-12)
    assert [quantile(1 - tail, df) for tail in BETWEEN[df]] == pytest.approx((0.5, 2, 5, 12), rel=1e-7)


@pytest.mark.parametrize("df", [0.7, 1, 6.5, 1e6])
def test_student_t_at_its_ends(df):
    assert upper_tail(0.0, df) == 0.5 and upper_tail(1e-12, df) == pytest.approx(0.5, abs=1e-12)
    assert 0 < upper_tail(1e200, df) < 1e-20 or df < 1
    assert upper_tail(-2.5, df) + upper_tail(2.5, df) == pytest.approx(1, abs=1e-15)


def test_student_t_of_many_degrees_of_freedom_is_nearly_normal():
    assert quantile(0.975, 10_001) == pytest.approx(NormalDist().inv_cdf(0.975), rel=2e-4)
    assert upper_tail(2.0, 10_000) == pytest.approx(1 - NormalDist().cdf(2.0), rel=1e-3)


def test_the_analysis_of_variance_is_the_textbooks():
    found = over_seeds_and_images(PENICILLIN)
    treatments, blends, residual = 70 / 3, 66.0, 226 / 12
    assert (found.mean, found.df) == (86, 3)
    assert found.seed_error == pytest.approx(math.sqrt(treatments / 20), rel=1e-12)
    assert found.image_error == pytest.approx(math.sqrt((blends - residual) / 20), rel=1e-12)


@given(differences)
def test_mean_squares_are_those_of_nested_linear_models(values):
    """The sums of squares that dummy variables explain, by least squares: the definition, and no formula of ours."""
    seeds, images = values.shape
    y = values.astype(float).ravel()
    seed, image = (np.eye(n)[index.ravel()] for n, index in zip(values.shape, np.indices(values.shape), strict=True))

    def unexplained(*columns: np.ndarray) -> float:
        design = np.column_stack([np.ones_like(y), *columns])
        return float(np.square(y - design @ np.linalg.lstsq(design, y, rcond=None)[0]).sum())

    ms_seed = (unexplained(image) - unexplained(seed, image)) / (seeds - 1)
    ms_image = (unexplained(seed) - unexplained(seed, image)) / (images - 1)
    ms_error = unexplained(seed, image) / ((seeds - 1) * (images - 1))
    found = over_seeds_and_images(values)
    assert found.seed_error**2 * seeds * images == pytest.approx(ms_seed, abs=1e-9)
    assert found.image_error**2 * seeds * images == pytest.approx(max(ms_image - ms_error, 0), abs=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 0.5), (0.05, 0.5), (0.1, 0.5), (0.2, 0.2)])
def test_intervals_cover_the_truth_in_95_of_100_studies(seeds, of_seed, of_image):
    """Seeds, images and the rest are normal with known standard deviations; the true mean is 0.1."""
    random = np.random.default_rng(seeds)
    studies, images = 3000, 100
    effects = random.normal(0, of_seed, (studies, seeds, 1)) + random.normal(0, of_image, (studies, 1, images))
    values = 0.1 + effects + random.normal(0, 0.4, (studies, seeds, images))
    assert 0.94 <= coverage(values, 0.1) <= 0.985


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_true_difference_of_two_classifiers(seeds):
    """A side hits where ability + its seed + the image's ease + chance is positive, so its accuracy is known."""
    random = np.random.default_rng(10 + seeds)
    studies, images, of_seed, of_image = 2000, 300, 0.1, 1.0
    abilities = (1.0, 0.8)
    spread = math.sqrt(1 + of_seed**2 + of_image**2)
    truth = NormalDist().cdf(abilities[0] / spread) - NormalDist().cdf(abilities[1] / spread)
    ease = random.normal(0, of_image, (studies, 1, images))
    better, worse = (
        ability + random.normal(0, of_seed, (studies, seeds, 1)) + ease + random.normal(0, 1, (studies, seeds, images))
        > 0
        for ability in abilities
    )
    assert 0.94 <= coverage(better.astype(np.int8) - worse, truth) <= 0.985


def coverage(values: np.ndarray, truth: float) -> float:
    """The share of studies (first axis) whose interval holds the truth."""
    ends = np.array([over_seeds_and_images(study).interval() for study in values])
    return float(np.mean((ends[:, 0] <= truth) & (truth <= ends[:, 1])))


@pytest.mark.long
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("share", [0.5, 1, 3, 10])
def test_verdicts_at_a_corrected_level_are_no_more_often_wrong_than_it_says(seeds, share):
    """The level of the first of some ten findings, 0.5 %; seeds make `share` times the variance that images make.

    Hillis' degrees of freedom for the sum of both variances would be wrong up to 7, 3.5 and 1.7 times as often.
    """
    random, studies, level = np.random.default_rng(seeds), 20_000, 0.005
    seed_errors = np.sqrt(share * random.chisquare(seeds - 1, studies) / (seeds - 1))
    means = random.normal(0, math.sqrt(share + 1), studies)
    wrong = 0
    for mean, error in zip(means, seed_errors, strict=True):
        if mean > 2.5 * error:  # else p_above is certainly larger
            found = Estimate(mean=float(mean), seed_error=float(error), image_error=1.0, df=seeds - 1)
            wrong += found.p_above(0) <= level
    assert wrong / studies <= level * 1.25  # the standard deviation of 20,000 studies is 10 %


@given(differences, st.floats(-1, 1))
def test_a_p_value_is_the_level_of_the_bound_that_reaches_the_threshold(values, threshold):
    found = over_seeds_and_images(values)
    p = found.p_above(threshold)
    assert p + found.p_below(threshold) == pytest.approx(1, abs=1e-12)
    if 1e-6 < p < 0.5 and found.error:
        t, z = quantile(1 - p, found.df), NormalDist().inv_cdf(1 - p)
        bound = found.mean - math.hypot(t * found.seed_error, z * found.image_error)
        assert bound == pytest.approx(threshold, abs=1e-6)
    low, high = found.interval()
    if min(abs(threshold - low), abs(threshold - high)) > 1e-9 and found.error:
        assert (low < threshold < high) == (0.025 < p < 0.975)


def test_seeds_that_are_alike_leave_mcnemars_test():
    """b images only one side hits, c only the other: z = (b - c) / sqrt(b + c), but for the variance under H0."""
    b, c, images = 130, 100, 10_000
    one = np.repeat([1, -1, 0], [b, c, images - b - c])
    found = over_seeds_and_images(np.stack([one] * 3))
    assert found.seed_error == 0
    assert found.mean / found.error == pytest.approx((b - c) / math.sqrt(b + c), rel=1e-3)
    wald = math.sqrt((b + c - (b - c) ** 2 / images) / (images * (images - 1)))
    assert found.error == pytest.approx(wald, rel=1e-12)
    assert found.p_above(0) == pytest.approx(1 - NormalDist().cdf(found.mean / wald), rel=1e-6)


def test_one_seed_has_no_interval():
    for found in (over_seeds_and_images(np.array([[1, 0, -1, 1]])), over_seeds(np.array([0.25]))):
        assert found.mean == 0.25
        assert all(map(math.isnan, (found.error, *found.interval(), found.p_above(0), found.p_below(0))))


@pytest.mark.parametrize("alike", [np.full((3, 7), 1), np.zeros((2, 5), int)])
def test_where_nothing_varies_the_interval_is_a_point(alike):
    found, mean = over_seeds_and_images(alike), alike[0, 0]
    assert found.error == 0 and found.interval() == (mean, mean)
    assert (found.p_above(mean - 0.1), found.p_below(mean - 0.1)) == (0, 1)
    assert (found.p_above(mean), found.p_below(mean)) == (0.5, 0.5)


def test_cosines_have_students_interval():
    """Student's own data (Biometrika, 1908): additional hours of sleep; t = 4.06 on 9 degrees of freedom."""
    sleep = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    found = over_seeds(sleep)
    assert found.mean / found.error == pytest.approx(4.062, abs=5e-4)  # R, t.test(..., paired = TRUE): t = 4.0621
    assert 2 * found.p_above(0) == pytest.approx(0.002833, abs=5e-7)  # p-value = 0.002833
    assert found.interval() == pytest.approx((0.7001142, 2.4598858), abs=5e-7)
    assert over_seeds(np.array([0.1, 0.1, 0.1])).error == 0


@given(differences)
def test_swapping_the_sides_turns_the_signs(values):
    one, other = over_seeds_and_images(values), over_seeds_and_images(-values)
    assert other.mean == -one.mean and other.error == one.error
    assert other.interval() == pytest.approx(tuple(-end for end in reversed(one.interval())), abs=1e-12)
    assert other.p_above(0.1) == pytest.approx(one.p_below(-0.1), abs=1e-12)
    assert one.p_above(0.1) + one.p_below(0.1) == pytest.approx(1, abs=1e-12)


@given(differences, st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_images_is_nothing(values, random):
    seeds, images = (random.sample(range(n), n) for n in values.shape)
    one, other = over_seeds_and_images(values), over_seeds_and_images(values[np.ix_(seeds, images)])
    assert (other.mean, other.seed_error) == pytest.approx((one.mean, one.seed_error), rel=1e-9)
    assert other.image_error == pytest.approx(one.image_error, abs=1e-7)


@given(differences, st.integers(1, 4))
def test_images_on_which_both_sides_agree_dilute_the_difference_only(values, more):
    seeds, images = values.shape
    wider = over_seeds_and_images(np.hstack([values, np.zeros((seeds, more), np.int8)]))
    assert wider.mean * (images + more) == pytest.approx(over_seeds_and_images(values).mean * images, abs=1e-9)


@given(differences)
def test_no_error_is_smaller_than_the_spread_over_seeds(values):
    seeds, images = values.shape
    spread = values.mean(axis=1).std(ddof=1) / math.sqrt(seeds)
    assert over_seeds_and_images(values).error >= spread - 1e-12
    same = np.repeat(values[:, :1], images, axis=1)  # images that are all alike: seeds are all that varies
    assert over_seeds_and_images(same).error == pytest.approx(same[:, 0].std(ddof=1) / math.sqrt(seeds), abs=1e-12)


def test_holms_correction_is_the_textbooks():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9, 0.5]) == [1, 1, 1]
    assert holm([]) == []
    corrected = holm([math.nan, 0.02, 0.01])
    assert math.isnan(corrected[0]) and corrected[1:] == [0.02, 0.02]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.999))
def test_holm_rejects_by_its_definition(p_values, level):
    """From the least on, reject while p <= level / (tests that are left)."""
    rejected, order = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, number in enumerate(order):
        if p_values[number] * (len(p_values) - rank) > level:
            break
        rejected.add(number)
    assert {number for number, p in enumerate(holm(p_values)) if p <= level} == rejected


def scores(seeds, values, images="abcd", **more) -> Scores:
    return Scores(seeds=tuple(seeds), values=np.array(values, bool), images=tuple(images), scale=100, **more)


def test_runs_are_paired_by_the_seed_in_their_names():
    assert seed_of("deit-ti/hard-from-regnety-16gf/224/seed12") == 12
    with pytest.raises(SystemExit, match="my-model: no seed at the end of this run's name"):
        seed_of("my-model")
    one = scores([0, 1, 2], [[1, 1, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]])
    other = scores([2, 0], [[1, 0, 0, 0], [0, 0, 0, 0]])
    found = difference("", one, other)
    assert found.seeds == (0, 2) and not found.shared
    assert found.values.tolist() == [[1, 1, 1, 1], [0, 1, 0, 0]]
    assert found.estimate().mean == pytest.approx(100 * 5 / 8)


def test_a_single_run_meets_all_seeds_only_where_it_is_shared():
    students, teacher = scores([1, 2], [[1, 1, 1, 1], [1, 1, 0, 0]]), scores([0], [[1, 0, 0, 0]])
    found = difference("", students, teacher, shared=True)
    assert found.seeds == (1, 2) and found.shared
    assert found.values.tolist() == [[0, 1, 1, 1], [0, 1, 0, 0]]
    assert difference("", teacher, students, shared=True).values.tolist() == [[0, -1, -1, -1], [0, -1, 0, 0]]
    with pytest.raises(SystemExit, match="table_2, gain: no seed in common .1, 2 and 0.. Give both the same seeds"):
        difference("table_2, gain", students, teacher)
    assert paired_seeds("", (0,), (3,)) == (0,), "two single runs are compared, without an interval"
    assert paired_seeds("", (0, 1), (0,)) == (0,)


def test_other_images_are_refused():
    with pytest.raises(SystemExit, match="were evaluated on different images"):
        difference("", scores([0], [[1, 1]], "ab"), scores([0], [[1, 1]], "ac"))
