"""What the parts of a gateway get of its settings, as plain values of their own.

Apart from settings.py, which every command reads and which shall load none of these parts.
"""

from __future__ import annotations

from gateway.auth import LogonLimits
from gateway.session_events import SessionRules
from gateway.settings import GatewaySettings
from gateway.tls import TlsFiles


def tls_files(settings: GatewaySettings) -> TlsFiles | None:
    """Return the files for TLS, or None where FIX is spoken in plain text."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)


def logon_limits(settings: GatewaySettings) -> LogonLimits:
    """Return the limits of logging on."""
    return LogonLimits(
        failures_free=settings.logon_failures_free,
        address_failures_free=settings.logon_address_failures_free,
        wait_max_s=settings.logon_wait_max_s,
        pending_max=settings.logon_pending_max,
        signed_window_s=settings.signed_logon_window_s,
        needs_certificate=settings.tls_client_ca is not None,
    )


def session_rules(settings: GatewaySettings) -> SessionRules:
    """Return the limits of a FIX session."""
    return SessionRules(
        comp_id=settings.comp_id.encode("ascii"),
        heart_bt_int_min_s=settings.heart_bt_int_min_s,
        heart_bt_int_max_s=settings.heart_bt_int_max_s,
        test_messages=settings.test_messages,
        sending_time_tolerance_s=settings.sending_time_tolerance_s,
        logon_timeout_s=settings.logon_timeout_s,
        logout_timeout_s=settings.logout_timeout_s,
        resend_timeout_s=settings.resend_timeout_s,
        max_message_bytes=settings.max_message_bytes,
        max_garbled_bytes=settings.max_garbled_bytes,
    )
