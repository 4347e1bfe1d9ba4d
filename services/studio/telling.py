"""What a presale and an order come to, in words: for their merchant, and for a buyer. It knows no HTTP."""

from dataclasses import dataclass

from perfusion.v1 import presale_pb2 as pb
from perfusion.v1.items_service_pb2 import StateChange

from services.studio.languages import Language, noted

BAR = 1000  # the width of a bar, in its own units
ON_SALE = (pb.PRESALE_STATE_OPEN,)
RUNNING = (*ON_SALE, pb.PRESALE_STATE_CLOSING, pb.PRESALE_STATE_SETTLING, pb.PRESALE_STATE_PRODUCING)
OVER = (pb.PRESALE_STATE_SHIPPED, pb.PRESALE_STATE_REFUNDED, pb.PRESALE_STATE_CANCELLED)
CANCELLABLE = (pb.PRESALE_STATE_OPEN, pb.PRESALE_STATE_CLOSING, pb.PRESALE_STATE_SETTLING)
ENDED = (pb.ORDER_STATE_EXPIRED, pb.ORDER_STATE_RELEASED, pb.ORDER_STATE_REFUNDED)
UNSHIPPED = (pb.ORDER_STATE_PENDING_PAYMENT, pb.ORDER_STATE_SECURED, pb.ORDER_STATE_COMMITTED)

_PRESALES = {
    pb.PRESALE_STATE_DRAFT: noted("A draft"),
    pb.PRESALE_STATE_OPEN: noted("On sale"),
    pb.PRESALE_STATE_CLOSING: noted("Closing: payments under way are waited for"),
    pb.PRESALE_STATE_SETTLING: noted("Closed: what was ordered is counted"),
    pb.PRESALE_STATE_PRODUCING: noted("In production"),
    pb.PRESALE_STATE_SHIPPED: noted("Shipped"),
    pb.PRESALE_STATE_REFUNDING: noted("Buyers get their money back"),
    pb.PRESALE_STATE_REFUNDED: noted("Every buyer has their money back"),
    pb.PRESALE_STATE_CANCELLED: noted("Taken back"),
}
_ORDERS = {
    pb.ORDER_STATE_PENDING_PAYMENT: noted("The payment is under way"),
    pb.ORDER_STATE_SECURED: noted("Ordered"),
    pb.ORDER_STATE_COMMITTED: noted("Is being made"),
    pb.ORDER_STATE_SHIPPED: noted("On its way"),
    pb.ORDER_STATE_EXPIRED: noted("Not paid"),
    pb.ORDER_STATE_CANCELLING: noted("The money is on its way back"),
    pb.ORDER_STATE_RELEASED: noted("Ended: no money was taken"),
    pb.ORDER_STATE_REFUNDED: noted("Ended: the money is back"),
}
_CAUSES = {
    "buyer": noted("You cancelled the order."),
    "merchant": noted("The shop ended the sale."),
    "threshold": noted("Too few were ordered, so the item is not made."),
    "payment": noted("It was not paid in time, or the payment was declined."),
    "capture": noted("The money that was held could not be charged."),
    "delay": noted("The later date was not accepted."),
    "production": noted("The shop could not make it."),
    "return": noted("You gave it back."),
}
_REASONS = {  # of the record, where it has a cause instead of somebody's words
    "buyer": noted("cancelled by its buyer"),
    "merchant": noted("the sale was cancelled"),
    "threshold": noted("too few were ordered"),
    "payment": noted("not paid in time, or declined"),
    "capture": noted("what was held could not be charged"),
    "delay": noted("the later date was not accepted"),
    "production": noted("the production was given up"),
    "return": noted("given back by its buyer"),
}
_METHODS = {
    "pm_card_visa": noted("Test card: pays"),
    "pm_card_visa_chargeDeclined": noted("Test card: is declined"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": noted("Test card: has too little money"),
    "pm_card_authenticationRequired": noted("Test card: you approve at the bank"),
    "pm_card_delayed": noted("Test card: pays after a while"),
    "pm_card_delayedDeclined": noted("Test card: is declined after a while"),
}
_DRAFT = "DRAFT"
_TERMS = {  # as the form calls them
    "title": noted("What it is called"),
    "description": noted("What buyers should know: material, sizes, care"),
    "price": noted("Price of one"),
    "min_units": noted("Made from so many on"),
    "max_units": noted("At most so many"),
    "max_units_per_buyer": noted("At most so many for one buyer"),
    "close_time": noted("The sale closes (UTC)"),
    "ships_within_days": noted("Shipped within so many days of the order"),
    "decide_within_hours": noted("Hours to decide, if too few are ordered"),
}
_ACTORS = {
    "merchant": noted("the shop"),
    "buyer": noted("the buyer"),
    "provider": noted("the payment provider"),
    "clock": noted("the clock"),
}


def presale_state(presale: pb.Presale, language: Language) -> str:
    """Where it stands."""
    is_short = int(presale.secured_units) < presale.terms.min_units
    if presale.state == pb.PRESALE_STATE_SETTLING and is_short:
        return language.say("Closed below what is needed: you decide")
    return language.say(_PRESALES[presale.state])


def order_state(order: pb.Order, language: Language) -> str:
    """Where it stands."""
    return language.say(_ORDERS[order.state])


def order_cause(order: pb.Order, language: Language) -> str:
    """Why it ended or is ending; "" of one that does not."""
    return language.say(_CAUSES[order.cause]) if order.cause in _CAUSES else ""


def method_name(method: str, language: Language) -> str:
    """What pays; the provider's own name of one that we do not know."""
    return language.say(_METHODS[method]) if method in _METHODS else method


def changed(change: StateChange, language: Language) -> str:
    """What a line of the record says: to what the presale, or an order, has come, who did it, and why."""
    if change.from_state == change.to_state == _DRAFT:
        what = language.say("The draft was changed")
        named = (language.say(_TERMS[name]) if name in _TERMS else name for name in change.reason.split(", "))
        return f"{what} ({language.say(_ACTORS['merchant'])})" + (f": {'; '.join(named)}" if change.reason else "")
    if change.from_state == change.to_state:
        what = language.say("It comes later")
    elif change.order_id:
        what = language.say(_ORDERS[pb.OrderState.Value(f"ORDER_STATE_{change.to_state}")])
    else:
        what = language.say(_PRESALES[pb.PresaleState.Value(f"PRESALE_STATE_{change.to_state}")])
    who = language.say(_ACTORS[change.actor]) if change.actor in _ACTORS else change.actor
    why = language.say(_REASONS[change.reason]) if change.reason in _REASONS else change.reason
    return f"{what} ({who})" + (f" — {why}" if why else "")


@dataclass(frozen=True)
class Bar:
    """Units against the threshold, in parts of BAR."""

    secured: int
    pending: int
    least: int


def bar_of(presale: pb.Presale) -> Bar:
    """Of what can be ordered at most."""
    most = max(1, presale.terms.max_units)
    return Bar(
        secured=BAR * presale.secured_units // most,
        pending=BAR * presale.pending_units // most,
        least=BAR * presale.terms.min_units // most,
    )


def units_left(presale: pb.Presale) -> int:
    """That can still be ordered."""
    return max(0, presale.terms.max_units - int(presale.secured_units) - int(presale.pending_units))
