r"""Does decoding driven by entropy and varentropy improve answers, or text (claim S4)?

SmolLM2-135M-Instruct answers two kinds of problems of reasoning-gym (sums of two digits, letters of
a word counted) and continues a novel, always through `gibbsian_generate`, with eleven methods:
greedy; the baselines temperature, top-p and min-p; and seven driven by entropy, varentropy or
surprisal: edt, dynatemp, quadrant (with branching and resampling), adaptive, aes, free-energy,
mirostat.

**Equal budget.** A method has one strength, and four settings of it, aimed at the mean entropies
that temperature 0.3, 0.5, 0.7 and 0.9 have on the same contexts (interpolated once from nine
points: the result holds what was asked for and what was found). On the
tuning split each setting is run once, and the best one is *tuned*: the highest accuracy, or on text
the least distance from the human continuations. Greedy has no budget. *Matched* is the strength at
which the entropy, as realised on the tuning split, equals that of the third setting of temperature,
by interpolation; on the test split it is roughly equal. Both are scored on the test split, three
continuations of each prompt, and compared with the best baseline: the one of greedy, tuned
temperature, top-p and min-p that was best on the tuning split, for each subject.

**Text.** A second model, a trigram model of two other novels, scores the continuations. The
distance from the human continuations is the mean of four absolute differences of means, each over
its scale: nats a token under the second model (scale 0.5), share of repeated 4-grams (0.1), length
compressed by zlib over length (0.05), different bigrams over bigrams (0.1).

**The rule of S4**, fixed before the measurement, on accuracy. All differences are paired by
problem, the seeds averaged, the tasks weighted equally; intervals are percentiles of a bootstrap
over problems; p-values are two-sided, from the same bootstrap, corrected by Holm over the seven.

- *holds*: a policy driven by entropy, tuned, is better than the best baseline (corrected p < 0.05),
  and at roughly matched entropy better than temperature too (lower end of its 95 % interval above
  0).
- *holds with a correction*: a policy is better as tuned, but not at roughly matched entropy.
- *does not hold*: no policy is better as tuned, and the mean advantage of the seven over the best
  baseline is below two points with 95 % confidence (upper end).
- *undecided*: otherwise: none is better, and a mean advantage of two points is not excluded.

The text is judged by the same tests on the distance; that is reported, and no part of the verdict.

    python -m gibbsian.experiments.studies.decoding --out results

Every piece is kept in `decoding-cells` beside the result: a run that was killed goes on, and
several may run beside each other on different `--subjects`.
"""
