"""Every field that may stand in a message of ours or of a client: name, type and values. Pure.

Names, types and values are those of FIX 4.4 (volume 6). Narrower than FIX 4.4 on purpose:

- Identifiers that we send back, and names in a Logon, are printable ASCII (type ``ID``); ClOrdID
  and OrigClOrdID are so of at most ``CL_ORD_ID_LENGTH_MAX`` characters (type ``CLORDID``).
- Numbers have at most 18 digits, counts and sequence numbers 9, decimals 20 on either side.
- Wider: a UTCTimestamp may have 6 or 9 digits behind the second, not only 3 or none.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from engine.limits import CL_ORD_ID_LENGTH_MAX

IsValid = Callable[[bytes], object]

_DIGITS = rb"[0-9]{1,9}"
_DECIMAL = rb"-?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})"
_DATE = rb"[0-9]{4}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])"
_TIME = rb"(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.(?:[0-9]{3}|[0-9]{6}|[0-9]{9}))?"
_PRINTABLE = rb"[ -~]+"
_TEXT = rb"[^\x01]+"

FORMATS = {
    "ID": _PRINTABLE,
    "CLORDID": _PRINTABLE,
    "STRING": _TEXT,
    "CURRENCY": _TEXT,
    "EXCHANGE": _TEXT,
    "COUNTRY": _TEXT,
    "DATA": rb"(?s:.+)",
    "CHAR": rb"[^\x01]",
    "BOOLEAN": rb"[YN]",
    "INT": rb"-?[0-9]{1,18}",
    "NUMINGROUP": _DIGITS,
    "LENGTH": _DIGITS,
    "SEQNUM": _DIGITS,
    "QTY": _DECIMAL,
    "PRICE": _DECIMAL,
    "PRICEOFFSET": _DECIMAL,
    "AMT": _DECIMAL,
    "FLOAT": _DECIMAL,
    "PERCENTAGE": _DECIMAL,
    "LOCALMKTDATE": _DATE,
    "UTCDATEONLY": _DATE,
    "UTCTIMEONLY": _TIME,
    "UTCTIMESTAMP": _DATE + b"-" + _TIME,
    "MONTHYEAR": rb"[0-9]{4}(?:0[1-9]|1[0-2])(?:[0-9]{2}|w[1-5])?",
    "MULTIPLEVALUESTRING": rb"[^\x01 ](?: [^\x01 ])*",
}
"""The regular expression of each type; none has a capturing group."""

_NARROWED = {"ID": "STRING", "CLORDID": "STRING"}

_NAMES = {
    # type: tag and name of each field
    "ID": """
        1 Account 37 OrderID 55 Symbol 112 TestReqID 262 MDReqID 320 SecurityReqID
        324 SecurityStatusReqID 335 TradSesReqID 553 Username 584 MassStatusReqID
        790 OrdStatusReqID
    """,
    "CLORDID": "11 ClOrdID 41 OrigClOrdID",
    "STRING": """
        17 ExecID 22 SecurityIDSource 23 IOIID 35 MsgType 48 SecurityID 49 SenderCompID
        50 SenderSubID 56 TargetCompID 57 TargetSubID 58 Text 65 SymbolSfx 66 ListID
        70 AllocID 79 AllocAccount 106 Issuer 107 SecurityDesc 115 OnBehalfOfCompID
        116 OnBehalfOfSubID 117 QuoteID 128 DeliverToCompID 129 DeliverToSubID 139 MiscFeeType
        142 SenderLocationID 143 TargetLocationID 144 OnBehalfOfLocationID
        145 DeliverToLocationID 167 SecurityType 221 BenchmarkCurveName
        222 BenchmarkCurvePoint 233 StipulationType 234 StipulationValue 235 YieldType
        239 RepoCollateralSecurityType 243 UnderlyingRepoCollateralSecurityType
        250 LegRepoCollateralSecurityType 255 CreditRating 256 UnderlyingCreditRating
        257 LegCreditRating 278 MDEntryID 299 QuoteEntryID 305 UnderlyingSecurityIDSource
        306 UnderlyingIssuer 307 UnderlyingSecurityDesc 309 UnderlyingSecurityID
        310 UnderlyingSecurityType
        311 UnderlyingSymbol 312 UnderlyingSymbolSfx 322 SecurityResponseID
        336 TradingSessionID 347 MessageEncoding 372 RefMsgType 376 ComplianceID
        379 BusinessRejectRefID 448 PartyID 455 SecurityAltID 456 SecurityAltIDSource
        458 UnderlyingSecurityAltID 459 UnderlyingSecurityAltIDSource 461 CFICode
        463 UnderlyingCFICode 467 IndividualAllocID 471 StateOrProvinceOfIssue
        472 LocaleOfIssue 494 Designation 513 RegistID 523 PartySubID 524 NestedPartyID
        526 SecondaryClOrdID 527 SecondaryExecID 532 MassCancelRejectReason 543 InstrRegistry
        545 NestedPartySubID 554 Password 583 ClOrdLinkID 593 UnderlyingStateOrProvinceOfIssue
        594 UnderlyingLocaleOfIssue 595 UnderlyingInstrRegistry 597 LegStateOrProvinceOfIssue
        598 LegLocaleOfIssue 599 LegInstrRegistry 600 LegSymbol 601 LegSymbolSfx
        602 LegSecurityID 603 LegSecurityIDSource 605 LegSecurityAltID
        606 LegSecurityAltIDSource 608 LegCFICode 609 LegSecurityType 617 LegIssuer
        620 LegSecurityDesc 625 TradingSessionSubID 628 HopCompID 635 ClearingFeeIndicator
        691 Pool 699 BenchmarkSecurityID 740 LegPool 761 BenchmarkSecurityIDSource
        762 SecuritySubType 763 UnderlyingSecuritySubType 764 LegSecuritySubType
        848 TargetStrategyParameters 868 EventText 872 InstrAttribValue 876 CPRegType
        877 UnderlyingCPProgram 878 UnderlyingCPRegType 888 UnderlyingStipType
        889 UnderlyingStipValue 913 AgreementDesc 914 AgreementID
    """,
    "CURRENCY": """
        15 Currency 120 SettlCurrency 138 MiscFeeCurr 220 BenchmarkCurveCurrency
        318 UnderlyingCurrency 479 CommCurrency 556 LegCurrency 736 AllocSettlCurrency
        918 AgreementCurrency 941 UnderlyingStrikeCurrency 942 LegStrikeCurrency
        947 StrikeCurrency
    """,
    "EXCHANGE": """
        100 ExDestination 207 SecurityExchange 308 UnderlyingSecurityExchange
        616 LegSecurityExchange
    """,
    "COUNTRY": "470 CountryOfIssue 592 UnderlyingCountryOfIssue 596 LegCountryOfIssue",
    "DATA": """
        89 Signature 91 SecureData 96 RawData 213 XmlData 349 EncodedIssuer
        351 EncodedSecurityDesc 355 EncodedText 363 EncodedUnderlyingIssuer
        365 EncodedUnderlyingSecurityDesc 619 EncodedLegIssuer 622 EncodedLegSecurityDesc
    """,
    "CHAR": """
        13 CommType 21 HandlInst 39 OrdStatus 40 OrdType 54 Side 59 TimeInForce 63 SettlType
        77 PositionEffect 81 ProcessCode 150 ExecType 206 OptAttribute
        263 SubscriptionRequestType 269 MDEntryType 279 MDUpdateAction 281 MDReqRejReason
        317 UnderlyingOptAttribute 385 MsgDirection 388 DiscretionInst
        434 CxlRejResponseTo 447 PartyIDSource 468 RoundingDirection 480 CancellationRights
        481 MoneyLaunderingStatus 497 FundRenewWaiv 525 NestedPartyIDSource 528 OrderCapacity
        530 MassCancelRequestType 531 MassCancelResponse 544 CashMargin 589 DayBookingInst
        590 BookingUnit 591 PreallocMethod 613 LegOptAttribute 624 LegSide
    """,
    "BOOLEAN": """
        43 PossDupFlag 97 PossResend 114 LocateReqd 121 ForexReq 123 GapFillFlag
        141 ResetSeqNumFlag 266 AggregatedBook 325 UnsolicitedIndicator 377 SolicitedFlag
        464 TestMessageIndicator 547 MDImplicitDelete 636 WorkingIndicator 893 LastFragment
        912 LastRptRequested 8013 CancelOnDisconnect
    """,
    "INT": """
        98 EncryptMethod 102 CxlRejReason 103 OrdRejReason 108 HeartBtInt 201 PutOrCall
        203 CoveredOrUncovered 226 RepurchaseTerm 244 UnderlyingRepurchaseTerm
        251 LegRepurchaseTerm 264 MarketDepth 265 MDUpdateType
        315 UnderlyingPutOrCall 326 SecurityTradingStatus 338 TradSesMethod 339 TradSesMode
        340 TradSesStatus 346 NumberOfOrders 371 RefTagID 373 SessionRejectReason
        378 ExecRestatementReason 380 BusinessRejectReason 393 TotNoRelatedSym 423 PriceType
        427 GTBookingInst 452 PartyRole 460 Product 462 UnderlyingProduct
        533 TotalAffectedOrders 538 NestedPartyRole 559 SecurityListRequestType
        560 SecurityRequestResult 567 TradSesStatusRejReason 581 AccountType
        582 CustOrderCapacity 585 MassStatusReqType 607 LegProduct 660 AcctIDSource
        661 AllocAcctIDSource 663 BenchmarkPriceType 668 DeliveryForm
        698 YieldRedemptionPriceType 775 BookingType 788 TerminationType 803 PartySubIDType
        805 NestedPartySubIDType 812 ApplQueueMax 815 ApplQueueAction 835 PegMoveType
        836 PegOffsetType 837 PegLimitType 838 PegRoundDirection 840 PegScope
        841 DiscretionMoveType 842 DiscretionOffsetType 843 DiscretionLimitType
        844 DiscretionRoundDirection 846 DiscretionScope 847 TargetStrategy
        851 LastLiquidityInd 854 QtyType 865 EventType 871 InstrAttribType 875 CPProgram
        911 TotNumReports 919 DeliveryType 7928 SelfTradePrevention
    """,
    "NUMINGROUP": """
        78 NoAllocs 136 NoMiscFees 146 NoRelatedSym 232 NoStipulations 267 NoMDEntryTypes
        268 NoMDEntries 384 NoMsgTypes 386 NoTradingSessions 453 NoPartyIDs
        454 NoSecurityAltID 457 NoUnderlyingSecurityAltID 539 NoNestedPartyIDs 555 NoLegs
        604 NoLegSecurityAltID 627 NoHops 711 NoUnderlyings 802 NoPartySubIDs
        804 NoNestedPartySubIDs 864 NoEvents 870 NoInstrAttrib 887 NoUnderlyingStips
    """,
    "LENGTH": """
        90 SecureDataLen 93 SignatureLength 95 RawDataLength 212 XmlDataLen
        348 EncodedIssuerLen 350 EncodedSecurityDescLen 354 EncodedTextLen
        362 EncodedUnderlyingIssuerLen 364 EncodedUnderlyingSecurityDescLen 383 MaxMessageSize
        618 EncodedLegIssuerLen 621 EncodedLegSecurityDescLen
    """,
    "SEQNUM": """
        7 BeginSeqNo 16 EndSeqNo 34 MsgSeqNum 36 NewSeqNo 45 RefSeqNum
        369 LastMsgSeqNumProcessed 630 HopRefID 789 NextExpectedMsgSeqNum
    """,
    "QTY": """
        14 CumQty 32 LastQty 38 OrderQty 80 AllocQty 110 MinQty 111 MaxFloor 151 LeavesQty
        152 CashOrderQty 192 OrderQty2 210 MaxShow 271 MDEntrySize 561 RoundLot
        562 MinTradeVol 879 UnderlyingQty
    """,
    "PRICE": """
        6 AvgPx 31 LastPx 44 Price 99 StopPx 140 PrevClosePx 202 StrikePrice 270 MDEntryPx
        316 UnderlyingStrikePrice 612 LegStrikePrice 640 Price2 662 BenchmarkPrice
        697 YieldRedemptionPrice 810 UnderlyingPx 867 EventPx 882 UnderlyingDirtyPrice
        883 UnderlyingEndPrice
    """,
    "PRICEOFFSET": "218 Spread",
    "AMT": """
        12 Commission 137 MiscFeeAmt 884 UnderlyingStartValue 885 UnderlyingCurrentValue
        886 UnderlyingEndValue
    """,
    "FLOAT": """
        211 PegOffsetValue 228 Factor 231 ContractMultiplier 246 UnderlyingFactor
        253 LegFactor 389 DiscretionOffsetValue 436 UnderlyingContractMultiplier
        469 RoundingModulus 614 LegContractMultiplier 623 LegRatioQty
    """,
    "PERCENTAGE": """
        223 CouponRate 227 RepurchaseRate 236 Yield 245 UnderlyingRepurchaseRate
        252 LegRepurchaseRate 435 UnderlyingCouponRate 516 OrderPercent 615 LegCouponRate
        849 ParticipationRate 869 PctAtRisk 898 MarginRatio
    """,
    "LOCALMKTDATE": """
        64 SettlDate 75 TradeDate 193 SettlDate2 224 CouponPaymentDate 225 IssueDate
        229 TradeOriginationDate 240 RedemptionDate 241 UnderlyingCouponPaymentDate
        242 UnderlyingIssueDate 247 UnderlyingRedemptionDate 248 LegCouponPaymentDate
        249 LegIssueDate 254 LegRedemptionDate 432 ExpireDate 541 MaturityDate
        542 UnderlyingMaturityDate 611 LegMaturityDate 696 YieldRedemptionDate
        701 YieldCalcDate 739 LegDatedDate 866 EventDate 873 DatedDate 874 InterestAccrualDate
        915 AgreementDate 916 StartDate 917 EndDate 956 LegInterestAccrualDate
    """,
    "UTCDATEONLY": "272 MDEntryDate",
    "UTCTIMEONLY": "273 MDEntryTime",
    "UTCTIMESTAMP": """
        52 SendingTime 60 TransactTime 122 OrigSendingTime 126 ExpireTime 168 EffectiveTime
        586 OrigOrdModTime 629 HopSendingTime
    """,
    "MONTHYEAR": """
        200 MaturityMonthYear 313 UnderlyingMaturityMonthYear 610 LegMaturityMonthYear
        667 ContractSettlMonth 955 LegContractSettlMonth
    """,
    "MULTIPLEVALUESTRING": """
        18 ExecInst 277 TradeCondition 286 OpenCloseSettlFlag 529 OrderRestrictions 546 Scope
    """,
}

_PLAIN_VALUES = {
    # values: the tags that have them; nothing here depends on what they mean
    "1..6": "13",
    "1..3": "21 338 339 544 546",
    "1..9 A..J": "22",
    "0..9": "63",
    "C F O R": "77",
    "0..6": "81 388",
    "0 1": "201 203 591 835 841 854",
    "0..5": "286",
    "R S": "385",
    "1..11": "423",
    "0..2": "427 468 589 590 775 837 843",
    "1..9 A..I": "447",
    "1..22 24..38": "452",
    "1..13": "460",
    "M N O Y": "480",
    "1..3 N Y": "481",
    "N Y": "497",
    "A G I P R W": "528",
    "1..9 A": "529",
    "1..4 6..8": "581",
    "1..4": "582 788 840 846",
    "1..5 9 B C E F H I L M": "635",
    "1..5 99": "660",
    "1 2": "668 838 844",
    "1..26": "803",
    "0..3": "815 836 842 919",
    "1..4 99": "865",
    "1 2 99": "875",
}

_VALUES = {  # tag: values, each with its meaning where it has one here
    18: "6=PARTICIPATE_DONT_INITIATE 0..5 7..9 A..S U..Z a..e",
    39: "0=NEW 1=PARTIALLY_FILLED 2=FILLED 4=CANCELED 8=REJECTED A=PENDING_NEW C=EXPIRED "
    "E=PENDING_REPLACE",
    40: "1=MARKET 2=LIMIT 3=STOP 4=STOP_LIMIT 6..9 D E G I..M P",
    54: "1=BUY 2=SELL 3..9 A..G",
    59: "0=DAY 1=GOOD_TILL_CANCEL 2=AT_THE_OPENING 3=IMMEDIATE_OR_CANCEL 4=FILL_OR_KILL"
    " 6=GOOD_TILL_DATE 5 7",
    98: "0=NONE 1..6",
    102: "0=TOO_LATE_TO_CANCEL 1=UNKNOWN_ORDER 2=BROKER_OPTION 6=DUPLICATE_CL_ORD_ID 99=OTHER",
    103: "1=UNKNOWN_SYMBOL 2=EXCHANGE_CLOSED 3=ORDER_EXCEEDS_LIMIT"
    " 4=TOO_LATE_TO_ENTER 5=UNKNOWN_ORDER 6=DUPLICATE_ORDER 8=STALE_ORDER"
    " 11=UNSUPPORTED_ORDER_CHARACTERISTIC 13=INCORRECT_QUANTITY 15=UNKNOWN_ACCOUNT 99=OTHER",
    139: "4=EXCHANGE_FEES",
    150: "0=NEW 4=CANCELED 5=REPLACED 8=REJECTED C=EXPIRED D=RESTATED F=TRADE I=ORDER_STATUS",
    167: "EUSUPRA FAC FADN PEF SUPRA CORP CPP CB DUAL EUCORP XLINKD STRUCT YANK FOR CS PS BRADY"
    " EUSOV TBOND TINT TIPS TCAL TPRN UST USTB TNOTE TBILL REPO FORWARD BUYSELL SECLOAN SECPLEDGE"
    " TERM RVLV RVLVTRM BRIDGE LOFC SWING DINP DEFLTED WITHDRN REPLACD MATURED AMENDED RETIRED BA"
    " BN BOX CD CL CP DN EUCD EUCP LQN MTN ONITE PN PZFJ STN TD XCN YCD ABS CMBS CMO IET MBS MIO"
    " MPO MPP MPT PFAND TBA AN COFO COFP GO MT RAN REV SPCLA SPCLO SPCLT TAN TAXA TECP TRAN VRDN"
    " WAR MF MLEG NONE FUT OPT",
    235: "AFTERTAX ANNUAL ATISSUE AVGMATURITY BOOK CALL CHANGE CLOSE COMPOUND CURRENT GROSS"
    " GOVTEQUIV INFLATION INVERSEFLOATER LASTCLOSE LASTMONTH LASTQUARTER LASTYEAR LONGAVGLIFE MARK"
    " MATURITY NEXTREFUND OPENAVG PUT PREVCLOSE PROCEEDS SEMIANNUAL SHORTAVGLIFE SIMPLE TAXEQUIV"
    " TENDER TRUE VALUE1/32 WORST",
    263: "0=SNAPSHOT 1=SNAPSHOT_AND_UPDATES 2=UNSUBSCRIBE",
    265: "0=FULL_REFRESH 1=INCREMENTAL_REFRESH",
    269: "0=BID 1=OFFER 2=TRADE 3..9 A..C",
    279: "0=NEW 1=CHANGE 2=DELETE",
    281: "0=UNKNOWN_SYMBOL 1=DUPLICATE_MD_REQ_ID 2=INSUFFICIENT_BANDWIDTH"
    " 5=UNSUPPORTED_MARKET_DEPTH 6=UNSUPPORTED_MD_UPDATE_TYPE 8=UNSUPPORTED_MD_ENTRY_TYPE",
    326: "2=TRADING_HALT 17=READY_TO_TRADE 18=NOT_AVAILABLE_FOR_TRADING 20=UNKNOWN_OR_INVALID"
    " 21=PRE_OPEN 22=OPENING_ROTATION",
    340: "1=HALTED 2=OPEN 3=CLOSED 4=PRE_OPEN 6=REQUEST_REJECTED",
    347: "ISO-2022-JP EUC-JP Shift_JIS UTF-8",
    373: "0=INVALID_TAG_NUMBER 1=REQUIRED_TAG_MISSING 2=TAG_NOT_DEFINED_FOR_THIS_MESSAGE_TYPE"
    " 4=TAG_SPECIFIED_WITHOUT_A_VALUE 5=VALUE_IS_INCORRECT 6=INCORRECT_DATA_FORMAT"
    " 9=COMP_ID_PROBLEM 10=SENDING_TIME_ACCURACY_PROBLEM 11=INVALID_MSG_TYPE"
    " 13=TAG_APPEARS_MORE_THAN_ONCE 14=TAG_SPECIFIED_OUT_OF_REQUIRED_ORDER"
    " 15=REPEATING_GROUP_FIELDS_OUT_OF_ORDER 16=INCORRECT_NUM_IN_GROUP_COUNT"
    " 17=FIELD_DELIMITER_IN_VALUE",
    378: "8=MARKET_OPTION 99=OTHER",
    380: "0=OTHER 1=UNKNOWN_ID 2=UNKNOWN_SECURITY 3=UNSUPPORTED_MESSAGE_TYPE"
    " 4=APPLICATION_NOT_AVAILABLE 5=CONDITIONALLY_REQUIRED_FIELD_MISSING 6=NOT_AUTHORIZED"
    " 7=DELIVER_TO_FIRM_NOT_AVAILABLE",
    434: "1=ORDER_CANCEL_REQUEST 2=ORDER_CANCEL_REPLACE_REQUEST",
    530: "1=SECURITY 7=ALL 2..6",
    531: "0=REJECTED 1=SECURITY 7=ALL",
    532: "0=NOT_SUPPORTED 1=UNKNOWN_SECURITY 99=OTHER",
    559: "0=SYMBOL 4=ALL 1..3",
    560: "0=VALID 1=INVALID 2=NONE_FOUND 4=TEMPORARILY_UNAVAILABLE",
    567: "1=UNKNOWN_TRADING_SESSION_ID",
    585: "1=SECURITY 7=ALL 2..6 8",
    851: "1=ADDED_LIQUIDITY 2=REMOVED_LIQUIDITY",
    871: "99=OTHER 1..22",
    7928: "0=NONE 1=CANCEL_NEWEST 2=CANCEL_OLDEST 3=CANCEL_BOTH",
}
"""Enumerations. Not here: StipulationType (233), whose values may be agreed on, and TargetStrategy
(847), which knows numbers from 1000 on; of what only we send, the values that we send."""

_OPEN_TAGS = ("373", "380")
"""Reasons in a Reject: whatever a client says there, a Reject is not answered by another."""


class Field(msgspec.Struct, frozen=True):
    """What a field is.

    Args:
        tag: its number.
        name: its name.
        type: its FIX type.
        values: what it may be, with a meaning or ``""``; none where its format says all.
        valid: the regular expression of good values; it has no capturing group.
        is_valid: tells whether a value is one of them.
        has_format: tells whether a value has the format of the type, though it may be out of range.
    """

    tag: bytes
    name: str
    type: str
    values: tuple[tuple[str, str], ...]
    valid: bytes
    is_valid: IsValid
    has_format: IsValid

    @property
    def is_any_text(self) -> bool:
        """Whether whatever is cut out of a message is a good value, if it is not empty."""
        return self.valid in (_TEXT, FORMATS["DATA"])


def _values(text: str) -> tuple[tuple[str, str], ...]:
    values = []
    for token in text.split():
        first, dots, last = token.partition("..")
        if not dots:
            value, _, meaning = token.partition("=")
            values.append((value, meaning))
        elif first.isdigit():
            values += [(str(number), "") for number in range(int(first), int(last) + 1)]
        else:
            values += [(chr(code), "") for code in range(ord(first), ord(last) + 1)]
    return tuple(values)


def _valid(tag: str, fix_type: str, values: tuple[tuple[str, str], ...]) -> bytes:
    texts = [re.escape(value.encode()) for value, _ in values]
    if fix_type == "CLORDID":
        return rb"[ -~]{1,%d}" % CL_ORD_ID_LENGTH_MAX
    if not texts or tag in _OPEN_TAGS:
        return FORMATS[fix_type]
    one = b"[%b]" % b"".join(texts) if max(map(len, texts)) == 1 else b"|".join(texts)
    if fix_type == "MULTIPLEVALUESTRING":
        return b"%b(?: %b)*" % (one, one)
    return b"(?:%b)" % one


def _fields() -> dict[bytes, Field]:
    fields = {}
    values_by_tag = {str(tag): text for tag, text in _VALUES.items()}
    for text, tags in _PLAIN_VALUES.items():
        values_by_tag |= dict.fromkeys(tags.split(), text)
    matchers = {pattern: re.compile(pattern).fullmatch for pattern in FORMATS.values()}
    for fix_type, text in _NAMES.items():
        words = text.split()
        for tag, name in zip(words[::2], words[1::2], strict=True):
            values = _values(values_by_tag.get(tag, ""))
            valid = _valid(tag, fix_type, values)
            # Quicker than the expression, where the values are all that it says.
            closed = values and tag not in _OPEN_TAGS and fix_type != "MULTIPLEVALUESTRING"
            one_of = frozenset([value.encode() for value, _ in values]).__contains__
            fields[tag.encode()] = Field(
                tag=tag.encode(),
                name=name,
                type=_NARROWED.get(fix_type, fix_type),
                values=values,
                valid=valid,
                is_valid=one_of if closed else matchers.get(valid) or re.compile(valid).fullmatch,
                has_format=matchers[FORMATS[fix_type]],
            )
    return fields


FIELDS = _fields()
"""By tag."""
