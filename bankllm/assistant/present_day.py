"""The day from which a customer's relative dates count. Expiry, limits and the audit log use the system's clock."""

from datetime import date

from bankllm.settings import Settings


def today(settings: Settings) -> date:
    """Return `settings.today` (`BANKLLM_TODAY`), else the system's day."""
    return settings.today or date.today()
