import unittest

from app import page


class Pages(unittest.TestCase):
    def test_the_front_page_is_there(self) -> None:
        self.assertEqual(page("/")[0], 200)

    def test_others_are_not(self) -> None:
        self.assertEqual(page("/nothing")[0], 404)
