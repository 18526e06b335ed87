import unittest

from app import app


class Pages(unittest.TestCase):
    def setUp(self) -> None:
        self.client = app.test_client()

    def test_the_front_page_is_there(self) -> None:
        self.assertEqual(self.client.get("/").status_code, 200)

    def test_others_are_not(self) -> None:
        self.assertEqual(self.client.get("/nothing").status_code, 404)
