"""One request of one buyer: nobody logs in to the shop, and an order is seen by the browser that placed it.

Pages ask for a Buying; one that changes something asks for a BuyersForm.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse

from services.runtime.errors import PermissionDenied
from services.studio.buyers import Buyer, known_buyer, new_buyer
from services.studio.visits import YEAR_S, Anybody, Sent, Visit, form_of, set_cookie


@dataclass(frozen=True)
class Browsing:
    """A request, and who makes it; `is_new` is somebody who has no cookie yet."""

    visit: Visit
    buyer: Buyer
    is_new: bool

    def show(self, template: str, status: int = 200, **content: Any) -> HTMLResponse:
        """A page of the shop, which knows nothing of a merchant who may have logged in here, too."""
        answer = self.visit.show(template, status, session=None, form_token=self.buyer.form_token, **content)
        if self.is_new:
            studio = self.visit.studio
            set_cookie(answer, studio, studio.buyer_cookie, self.buyer.secret, YEAR_S)
        return answer


@dataclass(frozen=True)
class BuyersForm:
    """A form that a page of the shop sent, from the browser to which it was shown."""

    browsing: Browsing
    sent: Sent


async def browsing(visit: Anybody) -> Browsing:
    """Whoever it is; somebody new gets a cookie with the page."""
    buyer = known_buyer(visit.request.cookies.get(visit.studio.buyer_cookie, ""))
    return Browsing(visit, buyer or new_buyer(), buyer is None)


async def buyers_form(browsing: Annotated[Browsing, Depends(browsing)], request: Request) -> BuyersForm:
    """A form; raises as `form_of`, and PermissionDenied for a browser that keeps no cookies."""
    visit = browsing.visit
    if browsing.is_new:
        raise PermissionDenied(visit.language.say("The shop knows your orders by a cookie: allow it, and try again."))
    return BuyersForm(browsing, await form_of(visit, request, browsing.buyer.form_token))


Buying = Annotated[Browsing, Depends(browsing)]
BuyingForm = Annotated[BuyersForm, Depends(buyers_form)]
