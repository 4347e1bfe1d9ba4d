"""What a request may ask for, said once: services check it, the export checks a family's defaults, the API tells it."""

SAMPLERS = ("ddim", "dpmsolver++2m", "euler")

MAX_USER_ID_CHARS = 128
MAX_PROMPT_CHARS = 1000  # of a prompt, and of a negative prompt
MAX_PREFIX_CHARS = 100  # of a phrase begun
MAX_PHRASE_CHARS = 100
MAX_REFUSED_WISHES = 64
MAX_CANDIDATES = 16
MAX_STEPS = 100
MAX_GUIDANCE_SCALE = 30.0
MAX_ADAPTER_SCALE = 2.0
MAX_VARIETY = 2.0
MAX_PAGE_SIZE = 100
MAX_SUGGESTIONS = 50
MAX_RANKED_IMAGES = 64
MAX_BATCHED_USERS = 256
MAX_SELECTED_IMAGES = 64  # more than any group holds

DEFAULT_CANDIDATES = 5
DEFAULT_PAGE_SIZE = 20
DEFAULT_SUGGESTIONS = 10
DEFAULT_STRENGTH = 0.6
