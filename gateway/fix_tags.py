"""Tags that the gateway reads or writes, message types and session reject reasons of FIX 4.4. Pure.

Tags and message types are bytes, because that is what stands on the wire and what keys a parsed
message. Reasons of orders and business rejects stand in ``engine/enums.py``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

SOH: Final = b"\x01"
BEGIN_STRING: Final = b"FIX.4.4"

# Message types.
HEARTBEAT: Final = b"0"
TEST_REQUEST: Final = b"1"
RESEND_REQUEST: Final = b"2"
REJECT: Final = b"3"
SEQUENCE_RESET: Final = b"4"
LOGOUT: Final = b"5"
EXECUTION_REPORT: Final = b"8"
ORDER_CANCEL_REJECT: Final = b"9"
LOGON: Final = b"A"
NEW_ORDER_SINGLE: Final = b"D"
ORDER_CANCEL_REQUEST: Final = b"F"
ORDER_CANCEL_REPLACE_REQUEST: Final = b"G"
ORDER_STATUS_REQUEST: Final = b"H"
BUSINESS_MESSAGE_REJECT: Final = b"j"
MARKET_DATA_REQUEST: Final = b"V"
MARKET_DATA_SNAPSHOT: Final = b"W"
MARKET_DATA_INCREMENTAL_REFRESH: Final = b"X"
MARKET_DATA_REQUEST_REJECT: Final = b"Y"
SECURITY_STATUS_REQUEST: Final = b"e"
SECURITY_STATUS: Final = b"f"
TRADING_SESSION_STATUS_REQUEST: Final = b"g"
TRADING_SESSION_STATUS: Final = b"h"
ORDER_MASS_CANCEL_REQUEST: Final = b"q"
ORDER_MASS_CANCEL_REPORT: Final = b"r"
SECURITY_LIST_REQUEST: Final = b"x"
SECURITY_LIST: Final = b"y"
ORDER_MASS_STATUS_REQUEST: Final = b"AF"

CLIENT_REQUESTS: Final = frozenset(
    {
        NEW_ORDER_SINGLE,
        ORDER_CANCEL_REQUEST,
        ORDER_CANCEL_REPLACE_REQUEST,
        ORDER_STATUS_REQUEST,
        ORDER_MASS_CANCEL_REQUEST,
        ORDER_MASS_STATUS_REQUEST,
        MARKET_DATA_REQUEST,
        SECURITY_LIST_REQUEST,
        SECURITY_STATUS_REQUEST,
        TRADING_SESSION_STATUS_REQUEST,
    }
)
"""Application messages that clients may send; the session hands them on."""

# Header, trailer and session tags.
TAG_DELIVER_TO_COMP_ID: Final = b"128"
TAG_MSG_SEQ_NUM: Final = b"34"
TAG_MSG_TYPE: Final = b"35"
TAG_POSS_DUP_FLAG: Final = b"43"
TAG_SENDER_COMP_ID: Final = b"49"
TAG_SENDING_TIME: Final = b"52"
TAG_TARGET_COMP_ID: Final = b"56"
TAG_RAW_DATA_LENGTH: Final = b"95"
TAG_RAW_DATA: Final = b"96"
TAG_POSS_RESEND: Final = b"97"
TAG_ORIG_SENDING_TIME: Final = b"122"
TAG_BEGIN_SEQ_NO: Final = b"7"
TAG_END_SEQ_NO: Final = b"16"
TAG_NEW_SEQ_NO: Final = b"36"
TAG_ENCRYPT_METHOD: Final = b"98"
TAG_HEART_BT_INT: Final = b"108"
TAG_TEST_REQ_ID: Final = b"112"
TAG_GAP_FILL_FLAG: Final = b"123"
TAG_RESET_SEQ_NUM_FLAG: Final = b"141"
TAG_TEST_MESSAGE_INDICATOR: Final = b"464"
TAG_USERNAME: Final = b"553"
TAG_PASSWORD: Final = b"554"
TAG_NEXT_EXPECTED_MSG_SEQ_NUM: Final = b"789"

# Order entry.
TAG_ACCOUNT: Final = b"1"
TAG_CL_ORD_ID: Final = b"11"
TAG_CURRENCY: Final = b"15"
TAG_EXEC_INST: Final = b"18"
TAG_ORDER_ID: Final = b"37"
TAG_ORDER_QTY: Final = b"38"
TAG_ORD_TYPE: Final = b"40"
TAG_ORIG_CL_ORD_ID: Final = b"41"
TAG_PRICE: Final = b"44"
TAG_SIDE: Final = b"54"
TAG_SYMBOL: Final = b"55"
TAG_TIME_IN_FORCE: Final = b"59"
TAG_STOP_PX: Final = b"99"
TAG_MIN_QTY: Final = b"110"
TAG_MAX_FLOOR: Final = b"111"
TAG_EXPIRE_TIME: Final = b"126"
TAG_CASH_ORDER_QTY: Final = b"152"
TAG_EXPIRE_DATE: Final = b"432"
TAG_MASS_CANCEL_REQUEST_TYPE: Final = b"530"
TAG_MASS_STATUS_REQ_ID: Final = b"584"
TAG_MASS_STATUS_REQ_TYPE: Final = b"585"
TAG_ORD_STATUS_REQ_ID: Final = b"790"
TAG_SELF_TRADE_PREVENTION: Final = b"7928"
TAG_CANCEL_ON_DISCONNECT: Final = b"8013"


class SessionRejectReason(IntEnum):
    """SessionRejectReason (373)."""

    INVALID_TAG_NUMBER = 0
    REQUIRED_TAG_MISSING = 1
    TAG_NOT_DEFINED_FOR_MESSAGE = 2
    TAG_WITHOUT_VALUE = 4
    VALUE_INCORRECT = 5
    INCORRECT_DATA_FORMAT = 6
    COMP_ID_PROBLEM = 9
    SENDING_TIME_ACCURACY = 10
    INVALID_MSG_TYPE = 11
    TAG_APPEARS_MORE_THAN_ONCE = 13
    TAG_OUT_OF_ORDER = 14
    GROUP_FIELDS_OUT_OF_ORDER = 15
    INCORRECT_NUM_IN_GROUP = 16
    FIELD_DELIMITER_IN_VALUE = 17


SESSION_REJECT_TEXTS: Final[dict[SessionRejectReason, str]] = {
    SessionRejectReason.INVALID_TAG_NUMBER: "Invalid tag number",
    SessionRejectReason.REQUIRED_TAG_MISSING: "Required tag missing",
    SessionRejectReason.TAG_NOT_DEFINED_FOR_MESSAGE: "Tag not defined for this message type",
    SessionRejectReason.TAG_WITHOUT_VALUE: "Tag specified without a value",
    SessionRejectReason.VALUE_INCORRECT: "Value is incorrect (out of range) for this tag",
    SessionRejectReason.INCORRECT_DATA_FORMAT: "Incorrect data format for value",
    SessionRejectReason.COMP_ID_PROBLEM: "CompID problem",
    SessionRejectReason.SENDING_TIME_ACCURACY: "SendingTime accuracy problem",
    SessionRejectReason.INVALID_MSG_TYPE: "Invalid MsgType",
    SessionRejectReason.TAG_APPEARS_MORE_THAN_ONCE: "Tag appears more than once",
    SessionRejectReason.TAG_OUT_OF_ORDER: "Tag specified out of required order",
    SessionRejectReason.GROUP_FIELDS_OUT_OF_ORDER: "Repeating group fields out of order",
    SessionRejectReason.INCORRECT_NUM_IN_GROUP: "Incorrect NumInGroup count for repeating group",
    SessionRejectReason.FIELD_DELIMITER_IN_VALUE: "Non-data value includes field delimiter (SOH)",
}
