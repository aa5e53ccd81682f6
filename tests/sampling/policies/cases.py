"""Every policy, with parameters that show what it does."""

from gibbsian.normalizers import SmoothStep
from gibbsian.sampling import Thresholds, policies

EVERY = [
    policies.Fixed(temperature=0.9, top_k=50, top_p=0.95, min_p=0.01),
    policies.EDT(top_p=0.95),
    policies.DynaTemp(min_p=0.02),
    policies.Mirostat(target=2.0),
    policies.Quadrant(
        thresholds=Thresholds(
            entropy_low=1.0, entropy_high=4.0, varentropy_low=1.0, varentropy_high=1.5
        ),
        insert_token=11,
    ),
    policies.Adaptive(),
    policies.AESPolicy(schedule=SmoothStep(zeta_max=0.5)),
    policies.FreeEnergy(target_entropy=2.0, excess=0.1),
]
